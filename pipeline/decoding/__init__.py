"""The one way to media files: a process decodes them, so that a file which kills or hangs it costs itself only."""
