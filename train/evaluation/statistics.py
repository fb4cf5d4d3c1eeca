"""Scores as estimates with their 95 % intervals, for every protocol.

Axis words: N queries, clips or rows.
"""

import numpy as np

from cavsync.train.evaluation.intervals import (
    Interval,
    clopper_pearson,
    korn_graubard,
    of_median,
    paired_proportions,
    student,
)
from cavsync.train.reporting.estimate import Estimate

# Two equal embeddings may differ by a rounding of the product; a score this near the right one is a tie.
TIE_TOLERANCE = 1e-6


def of_fraction(
    value: float,
    standard_error: float,
    num_items: int,
    degrees: float,
    chance: float | None = None,
    max_trials: float = np.inf,
) -> Estimate:
    """A score in [0, 1] from `num_items` items, whose standard error has so many degrees of freedom.

    NaN, and too few items for a standard error, have no interval.
    """
    if not (degrees > 0 and np.isfinite(value) and np.isfinite(standard_error)):
        return Estimate(value, chance=chance, unit="")
    interval = korn_graubard(value, standard_error, num_items, degrees, max_trials)
    return Estimate(value, *interval, chance, unit="")


def proportion(hits: np.ndarray, chance: float | None = None) -> Estimate:
    """How many of (N,) booleans are true, in %."""
    low, high = clopper_pearson(int(hits.sum()), len(hits))
    return Estimate(100 * float(hits.mean()), 100 * low, 100 * high, chance)


def mean_percent(fractions: np.ndarray, chance: float | None = None) -> Estimate:
    """The mean of (N,) fractions in [0, 1], in %; `chance` is in %. Fractions that are all 0 or 1 are a proportion."""
    if np.isin(fractions, (0, 1)).all():
        return proportion(fractions == 1, chance)
    number, value = len(fractions), float(fractions.mean())
    error = float(fractions.std(ddof=1) / np.sqrt(number)) if number > 1 else np.nan
    return of_fraction(value, error, number, number - 1).in_percent().with_chance(chance)


def mean(values: np.ndarray, chance: float | None = None, unit: str = "") -> Estimate:
    """The mean of (N,) values without bounds, one a clip."""
    return _estimate(float(values.mean()), student(values), chance, unit)


def median(values: np.ndarray, chance: float | None = None, unit: str = "") -> Estimate:
    """The median of (N,) values."""
    return _estimate(float(np.median(values)), of_median(values), chance, unit)


def median_rank(ranks: np.ndarray, chance: float | None = None) -> Estimate:
    """The median of (N,) ranks, of which 0 is the best; in the estimate the best is 1."""
    return median(ranks + 1, chance)


def paired_difference(before: np.ndarray, after: np.ndarray) -> Estimate:
    """The difference of two proportions of hits, (N,) booleans of the same queries, in points of %."""
    gained, lost, number = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    low, high = paired_proportions(gained, lost, number)
    return Estimate(100 * (gained - lost) / number, 100 * low, 100 * high)


def _estimate(value: float, interval: Interval | None, chance: float | None, unit: str) -> Estimate:
    low, high = interval or (None, None)
    return Estimate(value, low, high, chance, unit)
