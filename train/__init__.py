"""Shards and a model to checkpoints."""
