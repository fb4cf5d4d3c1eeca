"""Status, validation and statistics of a prepared dataset, and sample clips of it."""
