"""Clips of one recording, found by their content: fingerprints of audio and frames, an index of them, comparisons."""
