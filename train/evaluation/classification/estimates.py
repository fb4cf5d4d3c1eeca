"""The figures of classification with their 95 % intervals, from resampled clips.

Axis words: N clips, S resamples, C classes, R runs of clips with equal scores.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.classification.metrics import Chance, Classification, d_prime
from cavsync.train.evaluation.statistics import from_resamples, interval_95
from cavsync.train.reporting.estimate import Estimate

NUM_RESAMPLES = 300


@dataclass(frozen=True)
class ClassificationEstimates:
    """The figures of `Classification`, in [0, 1] but for d'; without an interval where no resample defines them."""

    mean_average_precision: Estimate
    auc: Estimate
    d_prime: Estimate
    top1: Estimate
    top1_macro: Estimate
    average_precisions: tuple[Estimate | None, ...]  # one a class, None where no clip has it


def classification_estimates(
    figures: Classification, chance: Chance, probabilities: np.ndarray, truth: np.ndarray, seed: int = 0
) -> ClassificationEstimates:
    """Of (N, C) probabilities against (N, C) truth. A class that a resample has no clip of is not in its means."""
    truth = truth.astype(bool)
    counts = _resample_counts(len(truth), np.random.default_rng(seed))
    chosen = probabilities.argmax(axis=1)
    hits = truth[np.arange(len(truth)), chosen]
    ranked = [ranking_figures(one, has, counts) for one, has in zip(probabilities.T, truth.T, strict=True)]
    precisions, areas = (np.stack(part) for part in zip(*ranked, strict=True))  # (C, S) each
    recalls = np.stack([_fraction(counts, chosen == number, has) for number, has in enumerate(truth.T)])
    return ClassificationEstimates(
        mean_average_precision=_estimate(
            figures.mean_average_precision, _mean(precisions), chance.mean_average_precision
        ),
        auc=_estimate(figures.auc, _mean(areas), 0.5),
        d_prime=_d_prime(figures.d_prime, _mean(areas)),
        top1=_estimate(figures.top1, _fraction(counts, hits, np.ones_like(hits)), chance.top1),
        top1_macro=_estimate(figures.top1_macro, _mean(recalls), chance.top1_macro),
        average_precisions=tuple(
            None
            if one.average_precision is None
            else _estimate(one.average_precision, resampled, one.num_clips / figures.num_clips)
            for one, resampled in zip(figures.classes, precisions, strict=True)
        ),
    )


def ranking_figures(scores: np.ndarray, has: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and AUC of one class, (S,) each; NaN is undefined.

    `scores` and `has` are (N,); resample s holds clip n `counts[n, s]` times, (N, S).
    """
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
    """First indices of runs: of equal scores that hold a clip with the class, and of all clips between two of those."""
    first = np.flatnonzero(np.diff(ranked, prepend=np.inf))
    past = np.append(first[1:], len(ranked))
    held = np.logical_or.reduceat(positive, first)
    edges = np.unique(np.concatenate([[0], first[held], past[held]]))
    return edges[edges < len(ranked)]


def _resample_counts(num_clips: int, random: np.random.Generator) -> np.ndarray:
    """(N, S): how often each clip is in each resample of N clips, drawn with replacement."""
    drawn = random.integers(num_clips, size=(NUM_RESAMPLES, num_clips))
    return np.stack([np.bincount(one, minlength=num_clips) for one in drawn], axis=1).astype(np.int32)


def _fraction(counts: np.ndarray, which: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(S,): the fraction of the clips `among`, (N,) booleans, that are `which`."""
    return _ratio(counts[which & among].sum(axis=0), counts[among].sum(axis=0))


def _mean(values: np.ndarray) -> np.ndarray:
    """(C, S) to (S,): over the classes that are defined."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _estimate(value: float, resampled: np.ndarray, chance: float) -> Estimate:
    """Of (S,) resampled values, of which NaN ones are left out."""
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return Estimate(value, chance=chance, unit="")
    return from_resamples(value, defined, chance, unit="")


def _d_prime(value: float, resampled_aucs: np.ndarray) -> Estimate:
    defined = resampled_aucs[~np.isnan(resampled_aucs)]
    low, high = map(d_prime, interval_95(defined)) if len(defined) else (None, None)
    return Estimate(value, low, high, chance=0.0, unit="")
