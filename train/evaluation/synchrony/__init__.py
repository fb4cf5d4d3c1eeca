"""The delay between audio and frames."""
