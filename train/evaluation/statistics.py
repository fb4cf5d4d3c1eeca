"""How sure a figure is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 1000
# Two equal embeddings may differ by a rounding of the product; a score this near the right one is a tie.
TIE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Figure:
    """In %, with a 95 % interval from resampled rows."""

    percent: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval from resampled clips."""

    value: float
    low: float
    high: float


def mean_percent(values: np.ndarray, seed: int = 0) -> Figure:
    """Of (N,) shares in [0, 1], as %."""
    return percent(mean(values, seed))


def mean(values: np.ndarray, seed: int = 0) -> Interval:
    """Of (N,) values, one a clip."""
    return bootstrap(lambda clips: float(values[clips].mean()), len(values), seed)


def bootstrap(figure: Callable[[np.ndarray], float], num_clips: int, seed: int = 0) -> Interval:
    """`figure` of all clips, given by number, and 95 % of what it is of resampled ones."""
    random = np.random.default_rng(seed)
    resampled = [figure(random.integers(num_clips, size=num_clips)) for _ in range(NUM_RESAMPLES)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(figure(np.arange(num_clips)), float(low), float(high))


def percent(share: Interval) -> Figure:
    """Of a share in [0, 1]."""
    return Figure(100 * share.value, 100 * share.low, 100 * share.high)


def share(hits: list[bool], seed: int = 0, num_resamples: int = 1000) -> Figure:
    """How many of `hits` are true, in %, with a 95 % bootstrap interval."""
    mean = float(np.mean(hits))
    resampled = np.random.default_rng(seed).binomial(len(hits), mean, num_resamples) / len(hits)
    low, high = np.percentile(100 * resampled, [2.5, 97.5])
    return Figure(100 * mean, float(low), float(high))
