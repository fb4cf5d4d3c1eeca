"""Video files to frames, audio and log-mel on one clock."""
