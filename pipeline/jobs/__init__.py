"""A preparation as jobs: one task a shard, run in this process or on Ray."""
