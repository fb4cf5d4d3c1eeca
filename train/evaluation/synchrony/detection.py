"""Can a score tell sound that is in step from sound that is not? And intervals of figures over clips.

Axis words: N clips, V versions of a clip (sound too soon, sound too late), S resamples of the clips.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.retrieval.similarity import TIE_TOLERANCE
from cavsync.train.evaluation.segmentation.metrics import Figure

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval from resampled clips."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Detection:
    """In-step scores against the scores of the same clips with wrong sound, in %; chance is 50."""

    num_clips: int
    auc: Figure  # over all clips: one threshold for all of them
    own: Figure  # share of clips whose in-step score is above the wrong one's, each clip its own threshold


def detect(in_step: np.ndarray, wrong: np.ndarray, seed: int = 0) -> Detection | None:
    """Of (N, V) scores, the same pictures in both; NaN where a clip has no such version. None if no clip has one."""
    has_one = np.isfinite(in_step).any(axis=1)
    if not has_one.any():
        return None
    in_step, wrong = in_step[has_one], wrong[has_one]

    def auc(clips: np.ndarray) -> float:
        return _auc(in_step[clips].ravel(), wrong[clips].ravel())

    higher = np.where(np.isfinite(in_step), in_step > wrong + TIE_TOLERANCE, np.nan)
    own = np.nanmean(higher, axis=1)
    return Detection(len(in_step), percent(bootstrap(auc, len(in_step), seed)), mean_percent(own, seed))


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


def _auc(right: np.ndarray, wrong: np.ndarray) -> float:
    """The chance that a right score is above a wrong one, ties for half; NaN is left out."""
    right, wrong = right[np.isfinite(right)], np.sort(wrong[np.isfinite(wrong)])
    below = np.searchsorted(wrong, right - TIE_TOLERANCE, side="left")
    not_above = np.searchsorted(wrong, right + TIE_TOLERANCE, side="right")
    return float((below + not_above).mean() / (2 * len(wrong)))
