"""A small audio-visual world, synthesised as real mp4 files with known content."""
