"""Raw videos to shards. Imports no torch."""
