"""Checkpoints and shards to scores and reports."""
