"""Random changes to an item; each is a pure function of the generator it is given."""

import math

import numpy as np
import torch
from torchvision.transforms.v2 import functional as image_ops

AREA_FRACTION = (0.08, 1.0)
ASPECT_RATIO = (0.9, 1.1)
MAX_NOISE = 0.1


def crop_and_flip(image: torch.Tensor, side: int, rng: np.random.Generator) -> torch.Tensor:
    """A random part of the uint8 `image` (height, width, 3), resized to (side, side, 3), flipped left to right with probability 1/2.

    The ranges are those of the paper's authors' loader.
    """
    height, width = image.shape[:2]
    area = height * width * rng.uniform(*AREA_FRACTION)
    ratio = math.exp(rng.uniform(*np.log(ASPECT_RATIO)))
    crop_height = min(height, max(1, round(math.sqrt(area / ratio))))
    crop_width = min(width, max(1, round(math.sqrt(area * ratio))))
    top = int(rng.integers(height - crop_height + 1))
    left = int(rng.integers(width - crop_width + 1))
    crop: torch.Tensor = image_ops.resized_crop(
        image.permute(2, 0, 1), top, left, crop_height, crop_width, [side, side], antialias=True
    )
    return (crop.flip(-1) if rng.random() < 0.5 else crop).permute(1, 2, 0)


def noise_and_roll(window: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The normalised (rows, mels) window plus uniform noise of random strength, rolled in time, as in CAV-MAE."""
    strength = MAX_NOISE * rng.random()
    noise = torch.from_numpy(rng.random(tuple(window.shape), dtype=np.float32))
    return (window + strength * noise).roll(int(rng.integers(-len(window), len(window))), dims=0)
