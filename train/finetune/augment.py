"""SpecAugment, mixup and label smoothing.

All work on the log-mel before it is normalised, and are pure functions of the generator that is passed in.
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
    hidden[:, _random_run(bands, max_bands, rng)] = HIDDEN
    hidden[_random_run(rows, max_rows, rng)] = HIDDEN
    return hidden


def mix_mels(one: torch.Tensor, other: torch.Tensor, weight: float) -> torch.Tensor:
    """The log-mel (..., rows, bands) of `weight` times one waveform plus 1 - `weight` times the other, in expectation
    over their phases.

    Powers of independent waveforms add, amplitudes are scaled: exp(one) weight² + exp(other) (1 - weight)². Rows of -inf
    are rows past a clip's end, which are silent.
    """
    return torch.logaddexp(one + 2 * math.log(weight), other + 2 * math.log(1 - weight))


def mix_images(one: torch.Tensor, other: torch.Tensor, weight: float) -> torch.Tensor:
    """uint8 images (..., height, width, 3) of one shape, blended."""
    return (weight * one + (1 - weight) * other).round().to(torch.uint8)


def smoothed(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Label smoothing of `targets` (..., classes): positives 1 - s and negatives s / classes, as upstream."""
    return torch.where(targets > 0, 1 - smoothing, smoothing / targets.shape[-1])


def _random_run(length: int, longest: int, rng: np.random.Generator) -> slice:
    """A random run of up to `longest` of `length` indices, drawn as torchaudio does."""
    width = rng.random() * min(longest, length)
    start = int(rng.random() * (length - width))
    return slice(start, start + int(width))
