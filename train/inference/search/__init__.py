"""Spans of embedded files that are similar to an image, audio or a video."""
