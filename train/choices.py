"""The closed choices of training and evaluation, in the words of their options and reports.

This module imports nothing heavy: `cavsync --help` shows the choices without loading torch.
"""

from typing import Literal

DeviceChoice = Literal["auto", "cpu", "cuda"]
# Of the products of a trained model; auto is bfloat16 where the device computes them faster than in float32.
InferencePrecision = Literal["auto", "float32", "bfloat16"]
# Whether a clip has one class (softmax), or any number of classes (a sigmoid each).
LabelTask = Literal["single-label", "multi-label"]
# How the similarities of all frames and windows of two clips become one.
Aggregation = Literal["diagonal-mean", "diagonal-max", "mean", "max"]
# Methods that give a heatmap of where audio comes from; masked-view is cavsync's own.
MapMethod = Literal["denseav", "masked-view"]
# What denseav compares the image patches with: every audio patch, their mean, or the audio embedding.
AudioFeatureKind = Literal["tokens", "mean", "global"]
Similarity = Literal["dot", "cosine"]
# Audio segments of a heatmap: all that cover the audio, or the one in its middle.
Windows = Literal["mean", "one"]
# The extremes that scale heatmaps to [0, 1]: those of all rows, or of each image.
Scaling = Literal["global", "per-image"]
# How an image becomes a square: squeezed, or its centre cropped.
Geometry = Literal["ez-vsl", "lvs"]
