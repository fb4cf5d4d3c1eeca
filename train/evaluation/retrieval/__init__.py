"""Recall of clips and segments across modalities."""
