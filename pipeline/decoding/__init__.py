"""Media read in a process of its own, so that a file costs itself only."""
