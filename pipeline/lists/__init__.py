"""Lists of clips, and the videos that they name."""
