"""The figures of classification with their 95 % intervals, from the figures without one clip each.

Axis words: N clips, C classes, R runs of clips with equal scores.
"""

from dataclasses import dataclass, field

import numpy as np

from cavsync.train.evaluation.classification.metrics import Chance, Classification, d_prime
from cavsync.train.evaluation.intervals import jackknife_error
from cavsync.train.evaluation.statistics import of_fraction, proportion
from cavsync.train.reporting.estimate import Estimate

# Of a class with few clips, all of which rank low: another set may have one that ranks high. With more trials a clip the
# interval of its average precision holds the right value in as few as 52 % of the cases (`python -m benchmarks.coverage`).
MAX_TRIALS_PER_CLIP = 3


@dataclass(frozen=True)
class ClassificationEstimates:
    """The figures of `Classification`, in [0, 1] but for d'; without an interval where too few clips have a class."""

    mean_average_precision: Estimate
    auc: Estimate
    d_prime: Estimate
    top1: Estimate
    top1_macro: Estimate
    average_precisions: tuple[Estimate | None, ...]  # one a class, None where no clip has it


def classification_estimates(
    figures: Classification, chance: Chance, probabilities: np.ndarray, truth: np.ndarray
) -> ClassificationEstimates:
    """Of (N, C) probabilities against (N, C) truth. A class that only one clip has is not in the mean without that clip."""
    truth = truth.astype(bool)
    chosen = probabilities.argmax(axis=1)
    precisions, areas, recalls = (_MeanWithoutClips(len(truth)) for _ in range(3))
    errors = []  # of each class's average precision
    for number, has in enumerate(truth.T):
        precision, area = ranking_without_clips(probabilities[:, number], has)
        precisions.add(precision)
        areas.add(area)
        recalls.add(_recall_without_clips(chosen == number, has))
        errors.append(_error(precision))
    degrees = sum(max(one.num_clips - 1, 0) for one in figures.classes)

    def of_mean(value: float, without_clips: _MeanWithoutClips, by_chance: float) -> Estimate:
        return of_fraction(value, _error(without_clips.mean()), len(truth), degrees, by_chance)

    auc = of_mean(figures.auc, areas, 0.5)
    hits = truth[np.arange(len(truth)), chosen]
    return ClassificationEstimates(
        mean_average_precision=of_mean(
            figures.mean_average_precision, precisions, chance.mean_average_precision
        ),
        auc=auc,
        d_prime=_d_prime(figures.d_prime, auc),
        top1=proportion(hits).as_fraction().with_chance(chance.top1),
        top1_macro=of_mean(figures.top1_macro, recalls, chance.top1_macro),
        average_precisions=tuple(
            None
            if one.average_precision is None
            else of_fraction(
                one.average_precision,
                error,
                one.num_clips,
                one.num_clips - 1,
                one.num_clips / figures.num_clips,
                MAX_TRIALS_PER_CLIP * one.num_clips,
            )
            for one, error in zip(figures.classes, errors, strict=True)
        ),
    )


def ranking_without_clips(scores: np.ndarray, has: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and AUC of one class without each clip, (N,) each, of (N,) scores and booleans; NaN is undefined."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    total = np.append(starts[1:], len(scores))  # (R,) clips from the best to the end of each run
    found = has[order].cumsum()[total - 1]  # (R,) those that have the class
    run = np.empty(len(scores), int)  # of each clip
    run[order] = np.repeat(np.arange(len(starts)), np.diff(total, prepend=0))
    return _precision_without_clips(total, found, run, has), _auc_without_clips(total, found, run, has)


def _precision_without_clips(
    total: np.ndarray, found: np.ndarray, run: np.ndarray, has: np.ndarray
) -> np.ndarray:
    """(N,) from the (R,) counts of `ranking_without_clips`; a clip changes the precision of its run and of those after it."""
    here, fewer = np.diff(found, prepend=0), np.maximum(total - 1, 1)
    before = np.concatenate([[0.0], (here * found / total).cumsum()[:-1]])
    without_other = before + _sum_from(here * found / fewer)
    without_one = before + _sum_from(here * (found - 1) / fewer) - (found - 1) / fewer
    return _ratio(np.where(has, without_one[run], without_other[run]), found[-1] - has)


def _auc_without_clips(total: np.ndarray, found: np.ndarray, run: np.ndarray, has: np.ndarray) -> np.ndarray:
    """(N,) from the (R,) counts of `ranking_without_clips`; equal scores count half."""
    others = total - found
    here, others_here = np.diff(found, prepend=0), np.diff(others, prepend=0)
    beaten = others[-1] - others + others_here / 2  # (R,) by a clip of the run that has the class
    beating = found - here / 2  # (R,) a clip of the run that does not have it
    pairs = (here * beaten).sum() - np.where(has, beaten[run], beating[run])
    return _ratio(pairs, (found[-1] - has) * (others[-1] - ~has))


def _recall_without_clips(chosen: np.ndarray, has: np.ndarray) -> np.ndarray:
    """(N,): the fraction of the clips `has` that are `chosen`, (N,) booleans, without each clip."""
    right = chosen & has
    return _ratio(right.sum() - right, has.sum() - has)


@dataclass
class _MeanWithoutClips:
    """The mean of a figure over the classes that define it, without each of N clips."""

    num_clips: int
    _sum: np.ndarray = field(init=False)
    _count: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self._sum, self._count = np.zeros(self.num_clips), np.zeros(self.num_clips)

    def add(self, without_clips: np.ndarray) -> None:
        """One class: (N,), NaN where it is undefined."""
        self._sum += np.nan_to_num(without_clips)
        self._count += ~np.isnan(without_clips)

    def mean(self) -> np.ndarray:
        """(N,), NaN where no class defines it."""
        return _ratio(self._sum, self._count)


def _sum_from(values: np.ndarray) -> np.ndarray:
    """(R,): the sum of each value and those after it."""
    total: np.ndarray = values[::-1].cumsum()[::-1]
    return total


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _error(without_clips: np.ndarray) -> float:
    """Standard error from (N,) figures, of which undefined ones are left out."""
    defined = without_clips[~np.isnan(without_clips)]
    return jackknife_error(defined) if len(defined) > 1 else np.nan


def _d_prime(value: float, auc: Estimate) -> Estimate:
    low, high = (None if bound is None else d_prime(bound) for bound in (auc.low, auc.high))
    return Estimate(value, low, high, chance=0.0, unit="")
