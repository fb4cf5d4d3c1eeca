"""Runs at a URL: a local folder that a run works in and what copies it there, and copies of runs for reading."""
