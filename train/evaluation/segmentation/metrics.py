"""Heatmaps against masks: average precision and IoU over the pooled pixels of each class.

Axis words: R rows of one class, X pixels of a row, T thresholds, B bins of scores.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.intervals import jackknife_error
from cavsync.train.evaluation.statistics import of_fraction
from cavsync.train.reporting.estimate import Estimate

NUM_THRESHOLDS = 20
# Of maps scaled to 0-1: the one threshold that was not chosen with the masks.
FIXED_THRESHOLD = 0.5
# Intervals are made from scores sorted into so many bins of equal count; the figures themselves are exact.
NUM_BINS = 1000


@dataclass(frozen=True)
class ClassScore:
    name: str
    num_rows: int
    area: float  # % of the pixels; the average precision of a constant map
    ap: Estimate
    iou: Estimate  # at the best of 20 thresholds
    fixed_iou: Estimate  # at FIXED_THRESHOLD


@dataclass(frozen=True)
class Segmentation:
    """One kind of map on all classes."""

    classes: tuple[ClassScore, ...]
    undefined: tuple[str, ...]  # classes without a pixel in any image, left out of the means
    ap: Estimate
    iou: Estimate
    fixed_iou: Estimate


@dataclass(frozen=True)
class _Measured:
    """One figure of a class in [0, 1], and what it is without one of its rows each, (R,)."""

    value: float
    without_rows: np.ndarray

    @property
    def degrees(self) -> int:
        return len(self.without_rows) - 1

    @property
    def variance(self) -> float:
        return jackknife_error(self.without_rows) ** 2 if self.degrees else np.nan

    def estimate(self) -> Estimate:
        error = np.sqrt(self.variance)
        return of_fraction(self.value, error, len(self.without_rows), self.degrees).in_percent()


def segment(names: list[str], maps: list[np.ndarray], truths: list[np.ndarray]) -> Segmentation:
    """Scores (side, side) maps, scaled to 0-1, against (side, side) boolean masks of the class `names[i]` of row i."""
    classes: list[ClassScore] = []
    measured: list[tuple[_Measured, ...]] = []
    undefined: list[str] = []
    for name in sorted(set(names)):
        rows = [row for row, other in enumerate(names) if other == name]
        scores, truth = (np.stack([part[row].ravel() for row in rows]) for part in (maps, truths))
        if not truth.any():
            undefined.append(name)
            continue
        measured.append(_measure(scores, truth))
        figures = (one.estimate() for one in measured[-1])
        classes.append(ClassScore(name, len(rows), 100 * float(truth.mean()), *figures))
    if not measured:
        raise EvaluationError(
            f"no image has a pixel of its class ({', '.join(undefined)}): nothing to score."
        )
    means = (_mean_estimate(of_classes) for of_classes in zip(*measured, strict=True))
    return Segmentation(tuple(classes), tuple(undefined), *means)


def _mean_estimate(classes: tuple[_Measured, ...]) -> Estimate:
    """The mean over classes, in %; rows vary within their class. Of classes with one row, their values vary."""
    value = float(np.mean([one.value for one in classes]))
    within = [one for one in classes if one.degrees]
    variances = [one.variance for one in within]
    degrees = [one.degrees for one in within]
    alone = np.array([one.value for one in classes if not one.degrees])
    if len(alone) and len(classes) > 1:
        degrees.append(max(len(alone) - 1, 1))
        variances.append(float(((alone - value) ** 2).sum()) * len(classes) / (len(classes) - 1))
    total = sum(variances)
    # Welch and Satterthwaite: the degrees of freedom of a sum of variances.
    parts = sum(variance**2 / number for variance, number in zip(variances, degrees, strict=True))
    num_rows = sum(len(one.without_rows) for one in classes)
    error = np.sqrt(total) / len(classes) if degrees else np.nan
    return of_fraction(value, error, num_rows, total**2 / parts if parts else sum(degrees)).in_percent()


def _measure(scores: np.ndarray, truth: np.ndarray) -> tuple[_Measured, ...]:
    """AP, IoU at the best of 20 thresholds, an upper bound, and IoU at the fixed one, of (R, X) scores and booleans of one class.

    Pixels strictly above a threshold count.
    """
    at_best = _overlaps(scores, truth, _thresholds(scores))
    at_fixed = _overlaps(scores, truth, np.array([FIXED_THRESHOLD]))
    ious = (
        _Measured(
            float(_iou(*(part.sum(axis=0) for part in overlaps)).max()),
            _iou(*(part.sum(axis=0) - part for part in overlaps)).max(axis=1),
        )
        for overlaps in (at_best, at_fixed)
    )
    precision = float(
        average_precision_score(truth.ravel(), scores.ravel())
    )  # step-wise, over every distinct value
    return _Measured(precision, _precision_without_rows(scores, truth)), *ious


def _thresholds(scores: np.ndarray) -> np.ndarray:
    """(T,) from the least score to the greatest; of a constant map the one that chooses every pixel."""
    low, high = scores.min(), scores.max()
    return np.array([-np.inf]) if low == high else np.linspace(low, high, NUM_THRESHOLDS)


def _overlaps(scores: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of intersection and of union, each (R, T)."""
    chosen = [scores > threshold for threshold in thresholds]
    intersection = np.stack([(one & truth).sum(axis=1) for one in chosen], axis=1)
    union = np.stack([(one | truth).sum(axis=1) for one in chosen], axis=1)
    return intersection, union


def _iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    iou: np.ndarray = intersection / np.maximum(union, 1)
    return iou


def _precision_without_rows(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(R,) average precisions of (R, X) scores and booleans without each row."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    # Bin 0 holds the highest scores.
    bins = len(edges) - np.searchsorted(edges, scores, side="right")
    of_rows = (_histogram(bins, which, len(edges) + 1) for which in (truth, np.ones_like(truth)))
    found, chosen = (counts.sum(axis=0) - counts for counts in of_rows)  # (R, B)
    precision = found.cumsum(axis=1) / np.maximum(chosen.cumsum(axis=1), 1)
    ap: np.ndarray = (found * precision).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    return ap


def _histogram(bins: np.ndarray, counted: np.ndarray, num_bins: int) -> np.ndarray:
    """(R, B): how many of each row's counted pixels fall into each bin."""
    rows = zip(bins, counted, strict=True)
    return np.stack([np.bincount(row[which], minlength=num_bins) for row, which in rows])
