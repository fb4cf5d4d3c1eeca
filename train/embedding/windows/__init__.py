"""Files of `cavsync embed`: many files embedded to one, its rows, and their matrix for searches."""
