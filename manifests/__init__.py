"""One TOML file a dataset: its lists, columns, splits, counts, labels and statistics."""
