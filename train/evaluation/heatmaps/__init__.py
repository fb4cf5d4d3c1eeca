"""Where in a frame an audio segment comes from."""
