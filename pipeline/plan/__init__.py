"""The plan of a preparation: the shard of every listed clip, fixed before anything is decoded."""
