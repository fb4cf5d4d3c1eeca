"""Heatmaps against masks: average precision and IoU over the pooled pixels of each class.

Axis words: R rows of one class, X pixels of a row, S resamples of the rows, T thresholds, B bins of scores.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.statistics import from_resamples
from cavsync.train.reporting.estimate import Estimate

NUM_THRESHOLDS = 20
# Of maps scaled to 0-1: the one threshold that was not chosen with the masks.
FIXED_THRESHOLD = 0.5
NUM_RESAMPLES = 500
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
    score: ClassScore
    resampled: np.ndarray  # (3, S): AP, IoU, IoU at the fixed threshold


def segment(
    names: list[str], maps: list[np.ndarray], truths: list[np.ndarray], seed: int = 0
) -> Segmentation:
    """Scores (side, side) maps, scaled to 0-1, against (side, side) boolean masks of the class `names[i]` of row i."""
    measured: list[_Measured] = []
    undefined: list[str] = []
    for name in sorted(set(names)):
        rows = [row for row, other in enumerate(names) if other == name]
        scores, truth = (np.stack([part[row].ravel() for row in rows]) for part in (maps, truths))
        if truth.any():
            measured.append(_measure(name, scores, truth, np.random.default_rng((seed, len(measured)))))
        else:
            undefined.append(name)
    if not measured:
        raise EvaluationError(
            f"no image has a pixel of its class ({', '.join(undefined)}): nothing to score."
        )
    classes = tuple(one.score for one in measured)
    means = np.mean([one.resampled for one in measured], axis=0)
    figures = (
        from_resamples(float(np.mean([getattr(one, kind).value for one in classes])), resampled)
        for kind, resampled in zip(("ap", "iou", "fixed_iou"), means, strict=True)
    )
    return Segmentation(classes, tuple(undefined), *figures)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Of (R, X) scores and booleans: the exact step-wise sum over every distinct value."""
    return float(average_precision_score(truth.ravel(), scores.ravel()))


def best_iou(scores: np.ndarray, truth: np.ndarray) -> float:
    """The IoU of (R, X) scores at the best of 20 thresholds from the least to the greatest; an upper bound.

    Pixels strictly above a threshold count. None is above a constant; it gets what choosing every pixel gets.
    """
    return float(_iou(*(part.sum(axis=0) for part in _overlaps(scores, truth, _thresholds(scores)))).max())


def _measure(name: str, scores: np.ndarray, truth: np.ndarray, random: np.random.Generator) -> _Measured:
    num_rows = len(scores)
    counts = random.multinomial(num_rows, np.full(num_rows, 1 / num_rows), NUM_RESAMPLES)
    at_best = _overlaps(scores, truth, _thresholds(scores))
    at_fixed = _overlaps(scores, truth, np.array([FIXED_THRESHOLD]))
    resampled = np.stack(
        [
            _resampled_ap(scores, truth, counts),
            *(_iou(*(counts @ part for part in overlaps)).max(axis=1) for overlaps in (at_best, at_fixed)),
        ]
    )
    iou, fixed = (_iou(*(part.sum(axis=0) for part in overlaps)).max() for overlaps in (at_best, at_fixed))
    figures = (
        from_resamples(100 * float(value), row)
        for value, row in zip((average_precision(scores, truth), iou, fixed), 100 * resampled, strict=True)
    )
    return _Measured(ClassScore(name, num_rows, 100 * float(truth.mean()), *figures), 100 * resampled)


def _thresholds(scores: np.ndarray) -> np.ndarray:
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


def _resampled_ap(scores: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(S,) average precisions; each resample takes row r `counts[s, r]` times."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    # Bin 0 holds the highest scores.
    bins = len(edges) - np.searchsorted(edges, scores, side="right")
    found = counts @ _histogram(bins, truth, len(edges) + 1)  # (S, B)
    chosen = counts @ _histogram(bins, np.ones_like(truth), len(edges) + 1)
    precision = found.cumsum(axis=1) / np.maximum(chosen.cumsum(axis=1), 1)
    ap: np.ndarray = (found * precision).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    return ap


def _histogram(bins: np.ndarray, counted: np.ndarray, num_bins: int) -> np.ndarray:
    """(R, B): how many of each row's counted pixels fall into each bin."""
    rows = zip(bins, counted, strict=True)
    return np.stack([np.bincount(row[which], minlength=num_bins) for row, which in rows])
