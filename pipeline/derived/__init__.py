"""Datasets made of the clips of other datasets, without decoding."""
