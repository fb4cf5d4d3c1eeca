"""What several commands print and read."""
