"""Shards to a pretrained CAV-MAE Sync."""
