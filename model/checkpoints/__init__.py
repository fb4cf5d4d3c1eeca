"""Weights in and out: ours, the published files, initial weights, exports."""
