"""Scores with their 95 % intervals: the percentile interval, and the resampling that several protocols share.

Axis words: N queries, clips or rows; S resamples.
"""

from collections.abc import Callable

import numpy as np

from cavsync.train.reporting.estimate import Estimate

NUM_RESAMPLES = 1000
# Two equal embeddings may differ by a rounding of the product; a score this near the right one is a tie.
TIE_TOLERANCE = 1e-6


def interval_95(resampled: np.ndarray) -> tuple[float, float]:
    """The bounds between which the middle 95 % of (S,) resampled values lie."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def from_resamples(
    value: float, resampled: np.ndarray, chance: float | None = None, unit: str = "%"
) -> Estimate:
    """`value` with the interval of what it is, (S,), in resamples that the caller drew."""
    return Estimate(value, *interval_95(resampled), chance, unit)


def proportion(hits: np.ndarray, chance: float | None = None, seed: int = 0) -> Estimate:
    """How many of (N,) booleans are true, in %."""
    hit_rate = float(np.mean(hits))
    # The number of hits in a resample of N with replacement is binomial: no need to draw them.
    resampled = np.random.default_rng(seed).binomial(len(hits), hit_rate, NUM_RESAMPLES) / len(hits)
    return from_resamples(100 * hit_rate, 100 * resampled, chance)


def median_rank(ranks: np.ndarray, chance: float | None = None, seed: int = 0) -> Estimate:
    """The median of (N,) ranks, of which 0 is the best; in the estimate the best is 1."""
    # Where the middle of N draws with replacement falls among the N sorted ranks has a beta distribution.
    half = (len(ranks) + 1) / 2
    indices = (np.random.default_rng(seed).beta(half, half, NUM_RESAMPLES) * len(ranks)).astype(int)
    low, high = interval_95(np.sort(ranks)[indices])
    return Estimate(float(np.median(ranks)) + 1, low + 1, high + 1, chance, unit="")


def bootstrap(
    figure: Callable[[np.ndarray], float],
    num_clips: int,
    chance: float | None = None,
    unit: str = "",
    seed: int = 0,
) -> Estimate:
    """`figure` of all clips, and its interval over resamples of them; it gets the (N,) indices of clips."""
    random = np.random.default_rng(seed)
    resampled = [figure(random.integers(num_clips, size=num_clips)) for _ in range(NUM_RESAMPLES)]
    return from_resamples(figure(np.arange(num_clips)), np.array(resampled), chance, unit)


def mean(values: np.ndarray, chance: float | None = None, unit: str = "", seed: int = 0) -> Estimate:
    """The mean of (N,) values, one a clip."""
    return bootstrap(lambda clips: float(values[clips].mean()), len(values), chance, unit, seed)


def mean_percent(fractions: np.ndarray, chance: float | None = None, seed: int = 0) -> Estimate:
    """The mean of (N,) fractions in [0, 1], in %; `chance` is in %."""
    return mean(fractions, seed=seed).in_percent().with_chance(chance)


def paired_difference(before: np.ndarray, after: np.ndarray, seed: int = 0) -> Estimate:
    """The difference of two proportions of hits, (N,) booleans of the same queries, in points of %."""
    num_queries = len(before)
    gained, lost = (after & ~before).mean(), (before & ~after).mean()
    # In a resample of queries only those count that changed; how many of each kind it holds is multinomial.
    draws = np.random.default_rng(seed).multinomial(
        num_queries, [gained, lost, max(0.0, 1 - gained - lost)], NUM_RESAMPLES
    )
    resampled = 100 * (draws[:, 0] - draws[:, 1]) / num_queries
    return from_resamples(100 * float(gained - lost), resampled)
