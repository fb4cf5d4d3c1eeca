"""A small audio-visual world written as real mp4 files with known content."""
