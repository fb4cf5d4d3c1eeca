"""One module a decoding library."""
