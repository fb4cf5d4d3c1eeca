"""The contract: what a prepared dataset is on disk, written and read."""
