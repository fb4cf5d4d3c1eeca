"""The contract of a prepared dataset: its files and records, written and read."""
