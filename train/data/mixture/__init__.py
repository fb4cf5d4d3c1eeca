"""Several datasets that one run trains on: how much of each, their statistics, and their clips as one sequence."""
