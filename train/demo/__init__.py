"""The whole path on a synthetic world."""
