"""Clips with the classes that a dataset gives them."""
