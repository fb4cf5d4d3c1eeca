"""Folders that the transformers library loads without this package."""
