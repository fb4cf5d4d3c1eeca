"""The figures of class probabilities: mAP, AUC, d', and top-1 micro and macro.

Axis words: N clips, C classes. Where no clip has a class, or all have it, some of its figures are undefined: means go over the
classes that have one, and the classes without clips are named.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from cavsync.train.errors import EvaluationError


@dataclass(frozen=True)
class ClassFigures:
    """One class; None is what its clips leave undefined."""

    name: str
    num_clips: int  # that have it
    average_precision: float | None
    auc: float | None
    recall: float | None  # fraction of its clips whose likeliest class it is


@dataclass(frozen=True)
class Classification:
    """Fractions in [0, 1]; a mean over no class is NaN."""

    num_clips: int
    mean_average_precision: float
    auc: float
    d_prime: float  # of the mean AUC, as the papers do
    top1: float  # micro: fraction of clips whose likeliest class is one of theirs
    top1_macro: float  # mean recall of the classes
    classes: tuple[ClassFigures, ...]

    @property
    def without_positives(self) -> list[str]:
        """Classes that no clip has; they are in no mean."""
        return [one.name for one in self.classes if one.num_clips == 0]


@dataclass(frozen=True)
class Chance:
    """Figures that need no model; fractions in [0, 1]."""

    mean_average_precision: float  # of equal scores: the mean fraction of clips that have a class
    top1: float  # of a class drawn at random
    top1_macro: float
    frequent_name: str  # the class that most clips have
    frequent_top1: float  # of answering it always


def chance(truth: np.ndarray, names: Sequence[str]) -> Chance:
    """Of (N, C) truth, 1 where the clip has the class."""
    num_clips = truth.astype(bool).sum(axis=0)
    frequent = int(num_clips.argmax())
    return Chance(
        mean_average_precision=float(num_clips[num_clips > 0].mean() / len(truth)),
        top1=float(num_clips.sum() / truth.size),
        top1_macro=1 / len(names),
        frequent_name=names[frequent],
        frequent_top1=float(num_clips[frequent] / len(truth)),
    )


def classification(probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> Classification:
    """Scores (N, C) probabilities against (N, C) truth, 1 where the clip has the class."""
    _check(probabilities, truth, names)
    truth = truth.astype(bool)
    chosen = probabilities.argmax(axis=1)
    classes = tuple(
        _class_figures(name, probabilities[:, number], truth[:, number], chosen == number)
        for number, name in enumerate(names)
    )
    auc = _mean([one.auc for one in classes])
    return Classification(
        num_clips=len(truth),
        mean_average_precision=_mean([one.average_precision for one in classes]),
        auc=auc,
        d_prime=d_prime(auc),
        top1=float(truth[np.arange(len(truth)), chosen].mean()),
        top1_macro=_mean([one.recall for one in classes]),
        classes=classes,
    )


def d_prime(auc: float) -> float:
    """Distance in deviations of two normal distributions whose AUC this is: 2.3262 for .95."""
    if math.isnan(auc):
        return math.nan
    if auc in (0.0, 1.0):
        return math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def confusions(
    probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]
) -> list[tuple[str, str, int]]:
    """(class, class predicted instead, number of clips), the most frequent first, of (N, C) arrays.

    A clip counts for each class it has.
    """
    chosen = probabilities.argmax(axis=1)
    wrong = ~truth.astype(bool)[np.arange(len(truth)), chosen]
    counts = np.zeros((len(names), len(names)), int)
    for clip, number in np.argwhere(truth.astype(bool) & wrong[:, None]):
        counts[number, chosen[clip]] += 1
    pairs = np.argwhere(counts)
    most = sorted(pairs.tolist(), key=lambda pair: -counts[pair[0], pair[1]])
    return [(names[right], names[answered], int(counts[right, answered])) for right, answered in most]


def _class_figures(name: str, scores: np.ndarray, has: np.ndarray, chosen: np.ndarray) -> ClassFigures:
    some, others = bool(has.any()), bool((~has).any())
    return ClassFigures(
        name=name,
        num_clips=int(has.sum()),
        average_precision=float(average_precision_score(has, scores)) if some else None,
        auc=float(roc_auc_score(has, scores)) if some and others else None,
        recall=float(chosen[has].mean()) if some else None,
    )


def _mean(values: Sequence[float | None]) -> float:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else math.nan


def _check(probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> None:
    if probabilities.shape != truth.shape or truth.shape[1:] != (len(names),):
        raise EvaluationError(
            f"probabilities {probabilities.shape} and truth {truth.shape} must both be (clips, {len(names)}): "
            "the model has other classes than the dataset."
        )
    if not len(truth):
        raise EvaluationError("There is no clip to score.")
    broken = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(broken):
        raise EvaluationError(
            f"The probabilities of {len(broken)} clips hold NaN or infinity (first: number {broken[0]}); "
            "figures over them mean nothing. Check the checkpoint and these clips."
        )
