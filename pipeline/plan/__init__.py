"""Which clip goes into which shard, before anything is decoded."""
