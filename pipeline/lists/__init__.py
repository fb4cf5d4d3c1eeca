"""Lists of clips, and the videos that belong to them."""
