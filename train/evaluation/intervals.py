"""95 % intervals that hold where a score is at its bound, or where few items were scored.

A proportion gets the exact binomial interval of Clopper and Pearson. A mean of fractions, or a score such as an average
precision, gets the interval of Korn and Graubard: that of Clopper and Pearson, of as many trials as would have the score's
standard error. Standard errors are those of the jackknife, which leaves out one scored item at a time; resampling with
replacement would rank copies of one item one after the other, and so raise average precisions.

Axis words: N scored items.
"""

import numpy as np
from scipy import special  # scipy.stats would take a sixth of a training's start

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2

Interval = tuple[float, float]


def clopper_pearson(successes: float, trials: float) -> Interval:
    """Of a proportion in [0, 1]. Both numbers may be fractional."""
    low = special.betaincinv(successes, trials - successes + 1, TAIL) if successes > 0 else 0.0
    high = special.betaincinv(successes + 1, trials - successes, 1 - TAIL) if successes < trials else 1.0
    return float(low), float(high)


def korn_graubard(
    value: float, standard_error: float, num_items: int, degrees: float, max_trials: float = np.inf
) -> Interval:
    """Of a score in [0, 1] whose standard error was estimated with so many degrees of freedom.

    `max_trials` holds where few items may be alike by accident, so that their standard error is too small.
    A score of 0 or 1, and one without a standard error, counts as `num_items` trials. For the mean of `num_items`
    independent fractions that are all 1 this is exact: where their mean is m, it happens with m ** num_items at most.
    """
    trials = float(num_items)
    if 0 < value < 1 and standard_error > 0:
        ratio = special.ndtri(1 - TAIL) / special.stdtrit(degrees, 1 - TAIL)
        trials = min(max_trials, float(value * (1 - value) / standard_error**2 * ratio**2))
    return clopper_pearson(value * trials, trials)


def student(values: np.ndarray) -> Interval | None:
    """Of the mean of (N,) values without bounds; None where nothing shows how much they vary."""
    if len(values) < 2 or not values.std():
        return None
    half = special.stdtrit(len(values) - 1, 1 - TAIL) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def of_median(values: np.ndarray) -> Interval | None:
    """Of the median of (N,) values, from two of them, whatever their distribution; None of fewer than six."""
    # So many values are below the median, or above it, with a probability of 2.5 % at most.
    below = special.bdtr(np.arange(len(values) + 1), len(values), 0.5)
    beyond = int(np.searchsorted(below, TAIL))
    if not beyond:
        return None
    ordered = np.sort(values)
    return float(ordered[beyond - 1]), float(ordered[-beyond])


def paired_proportions(gained: int, lost: int, num_items: int) -> Interval:
    """Of (gained - lost) / num_items, in [-1, 1]: Bonett and Price, which holds for few changes, and for none."""
    more, less, total = (gained + 1) / (num_items + 2), (lost + 1) / (num_items + 2), num_items + 2
    half = special.ndtri(1 - TAIL) * np.sqrt((more + less - (more - less) ** 2) / total)
    return float(max(-1.0, more - less - half)), float(min(1.0, more - less + half))


def jackknife_error(left_out: np.ndarray) -> float:
    """Standard error of a score from its (N,) values without one item each."""
    number = len(left_out)
    return float(np.sqrt((number - 1) / number * ((left_out - left_out.mean()) ** 2).sum()))
