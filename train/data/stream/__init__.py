"""Clips as a stream: whole shards from front to back, over any protocol, with no local copy."""
