"""Heatmaps against masks of prompted objects."""
