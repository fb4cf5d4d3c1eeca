"""Checkpoints of a run, and the thread that writes them while training goes on."""
