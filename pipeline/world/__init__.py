"""A small synthetic audio-visual world, written as real clips under the official lists.

Ten classes of things sound one after another. A thing is visible exactly while it sounds, its height sets its
pitch and its size its level, so sound and picture agree frame by frame and not only clip by clip; pale mute
things, backgrounds and noise agree with nothing. What is visible where is known to the pixel.
"""
