"""Shards made here or on Ray."""
