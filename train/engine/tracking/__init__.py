"""Trackers of a run: where its metrics, images and configuration go besides its folder."""
