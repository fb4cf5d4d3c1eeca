"""Random changes that belong to learning classes: hidden bands and stretches, and two clips in one.

All work on the log-mel before it is normalised, and are pure functions of the generator that they are given.
"""

import math

import numpy as np
import torch

# Upstream hides with a zero of the raw log-mel, which is a loud value, not silence.
HIDDEN = 0.0


def hide_bands(mel: torch.Tensor, max_bands: int, max_rows: int, rng: np.random.Generator) -> torch.Tensor:
    """SpecAugment: (rows, bands) with one run of up to `max_bands` bands and one of up to `max_rows` rows hidden."""
    hidden = mel.clone()
    rows, bands = mel.shape
    hidden[:, _stretch(bands, max_bands, rng)] = HIDDEN
    hidden[_stretch(rows, max_rows, rng)] = HIDDEN
    return hidden


def mix_mels(one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """The log-mel of `share` times one waveform plus the rest of the other, as expected over their phases.

    Powers of unrelated sounds add, amplitudes are scaled: exp(one) share² + exp(other) (1 - share)². Rows of -inf
    are rows past a clip's end, which are silent.
    """
    return torch.logaddexp(one + 2 * math.log(share), other + 2 * math.log(1 - share))


def mix_pictures(one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    """uint8 pictures laid over each other."""
    return (share * one + (1 - share) * other).round().to(torch.uint8)


def smoothed(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Positives 1 - s and negatives s / classes, as upstream."""
    return torch.where(targets > 0, 1 - smoothing, smoothing / targets.shape[-1])


def _stretch(length: int, longest: int, rng: np.random.Generator) -> slice:
    """Up to `longest` of `length` places, anywhere, as torchaudio draws them."""
    width = rng.random() * min(longest, length)
    start = int(rng.random() * (length - width))
    return slice(start, start + int(width))
