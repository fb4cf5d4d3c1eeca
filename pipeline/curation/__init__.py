"""Choosing clips of a dataset: conditions over the index, and datasets made of parts of others."""
