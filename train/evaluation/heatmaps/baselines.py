"""Maps that need no model: what any score has to beat."""

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


def colour_saliency(picture: np.ndarray) -> Tensor:
    """(side, side): how far each pixel of an (side, side, 3) picture is from the picture's median colour."""
    pixels = picture.astype(np.float32)
    distance: np.ndarray = np.linalg.norm(pixels - np.median(pixels, axis=(0, 1)), axis=-1)
    return torch.from_numpy(distance)
