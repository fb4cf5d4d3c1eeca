"""95 % intervals of classification's figures, from resampled clips; the figures themselves are exact elsewhere.

Axis words: N clips, S resamples, C classes, R runs of clips with equal scores.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.classification.metrics import d_prime

NUM_RESAMPLES = 300


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class ClassIntervals:
    """Of each figure of `Classification`; None where the figure is undefined in every resample."""

    mean_average_precision: Interval | None
    auc: Interval | None
    d_prime: Interval | None
    top1: Interval | None
    top1_macro: Interval | None
    average_precisions: tuple[Interval | None, ...]  # one a class


def class_intervals(probabilities: np.ndarray, truth: np.ndarray, seed: int = 0) -> ClassIntervals:
    """Of (N, C) probabilities against (N, C) truth. A class that a resample has no clip of is not in its means."""
    truth = truth.astype(bool)
    counts = _resample_counts(len(truth), np.random.default_rng(seed))
    chosen = probabilities.argmax(axis=1)
    hits = truth[np.arange(len(truth)), chosen]
    ranked = [ranking_figures(one, has, counts) for one, has in zip(probabilities.T, truth.T, strict=True)]
    precisions, areas = (np.stack(part) for part in zip(*ranked, strict=True))  # (C, S) each
    recalls = np.stack([_share(counts, chosen == number, has) for number, has in enumerate(truth.T)])
    auc = _interval(_mean(areas))
    return ClassIntervals(
        mean_average_precision=_interval(_mean(precisions)),
        auc=auc,
        d_prime=None if auc is None else Interval(d_prime(auc.low), d_prime(auc.high)),
        top1=_interval(_share(counts, hits, np.ones_like(hits))),
        top1_macro=_interval(_mean(recalls)),
        average_precisions=tuple(map(_interval, precisions)),
    )


def ranking_figures(scores: np.ndarray, has: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and AUC of one class, (S,) each, where clip n is there `counts[n, s]` times; NaN undefined."""
    order = np.argsort(-scores, kind="stable")
    positive, drawn = has[order], counts[order]
    edges = _edges(scores[order], positive)
    num_clips = np.add.reduceat(drawn, edges, axis=0, dtype=np.int64)  # (R, S)
    num_found = np.zeros_like(num_clips)
    runs = np.searchsorted(edges, np.flatnonzero(positive), side="right") - 1
    np.add.at(num_found, runs, drawn[positive])
    found, others = num_found.cumsum(axis=0), (num_clips - num_found).cumsum(axis=0)
    precision = found / np.maximum(found + others, 1)
    # Of the clips without the class: those that are ranked below, and half of those with an equal score.
    beaten = others[-1] - others + (num_clips - num_found) / 2
    return (
        _ratio((num_found * precision).sum(axis=0), found[-1]),
        _ratio((num_found * beaten).sum(axis=0), found[-1] * others[-1]),
    )


def _edges(ranked: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Where runs begin: of equal scores that hold a clip with the class, and of all clips between two of those."""
    first = np.flatnonzero(np.diff(ranked, prepend=np.inf))
    past = np.append(first[1:], len(ranked))
    held = np.logical_or.reduceat(positive, first)
    edges = np.unique(np.concatenate([[0], first[held], past[held]]))
    return edges[edges < len(ranked)]


def _resample_counts(num_clips: int, random: np.random.Generator) -> np.ndarray:
    """(N, S): how often each clip is in each resample of N clips, drawn with replacement."""
    drawn = random.integers(num_clips, size=(NUM_RESAMPLES, num_clips))
    return np.stack([np.bincount(one, minlength=num_clips) for one in drawn], axis=1).astype(np.int32)


def _share(counts: np.ndarray, which: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(S,): how many of the clips `among` are `which`."""
    return _ratio(counts[which & among].sum(axis=0), counts[among].sum(axis=0))


def _mean(values: np.ndarray) -> np.ndarray:
    """(C, S) to (S,): over the classes that are defined."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _interval(resampled: np.ndarray) -> Interval | None:
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return Interval(float(low), float(high))
