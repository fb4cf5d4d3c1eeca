"""Where in a video its audio comes from, and whether anything in it sounds like that."""
