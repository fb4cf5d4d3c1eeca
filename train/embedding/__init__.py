"""Checkpoints and media to vectors."""
