"""Heatmaps against boxes of sounding objects."""
