"""Heatmaps that need no model: the baselines of every score."""

import numpy as np
import torch
from torch import Tensor


def constant(side: int) -> Tensor:
    """(side, side) of one value."""
    return torch.zeros(side, side)


def centred_disc(side: int) -> Tensor:
    """(side, side): the nearer to the middle, the higher. Its upper half is a disc."""
    offset = torch.arange(side) + 0.5 - side / 2
    return -torch.hypot(offset[:, None], offset[None, :])


def colour_saliency(image: np.ndarray) -> Tensor:
    """(side, side): how far each pixel of a (side, side, 3) image is from the image's median colour."""
    pixels = image.astype(np.float32)
    distance: np.ndarray = np.linalg.norm(pixels - np.median(pixels, axis=(0, 1)), axis=-1)
    return torch.from_numpy(distance)
