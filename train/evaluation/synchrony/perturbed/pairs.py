"""AV-SyncBench's rule over pairs: the clip's own audio must score above the perturbed audio, and a tie is wrong."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.intervals import jackknife_error
from cavsync.train.evaluation.statistics import TIE_TOLERANCE, of_fraction, proportion
from cavsync.train.evaluation.synchrony.perturbed.perturbation import OFFSET
from cavsync.train.reporting.estimate import Estimate

CHANCE = 50.0


@dataclass(frozen=True)
class ScoredPair:
    """Mean similarities of a clip's frames with its own audio and with a perturbed version of it, over the same frames."""

    clip: str  # or the video; pairs of one belong together
    negative: str
    amount: str
    direction: str
    own: float
    perturbed: float

    @property
    def is_tie(self) -> bool:
        return abs(self.own - self.perturbed) <= TIE_TOLERANCE

    @property
    def is_right(self) -> bool:
        return self.own > self.perturbed + TIE_TOLERANCE


@dataclass(frozen=True)
class PairAccuracy:
    """The fraction of pairs that are right; the interval is that of clips, whose pairs belong together."""

    num_clips: int
    num_pairs: int
    num_ties: int
    accuracy: Estimate


@dataclass(frozen=True)
class PairwiseFigures:
    """By negative, then of each by amount, and of the offsets by direction."""

    negatives: dict[str, PairAccuracy]
    amounts: dict[str, dict[str, PairAccuracy]]
    directions: dict[str, PairAccuracy]

    @property
    def published_order(self) -> list[PairAccuracy | None]:
        """Of the offsets that AV-SyncBench publishes, and of all offsets; None for one without a pair."""
        by_amount = self.amounts.get(OFFSET, {})
        return [
            *(by_amount.get(f"{one} ms") for one in (50, 100, 200, 300, 500)),
            self.negatives.get(OFFSET),
        ]


def summarise_pairs(pairs: Sequence[ScoredPair]) -> PairwiseFigures:
    by_negative = _grouped(pairs, lambda pair: pair.negative)
    offsets = [pair for pair in by_negative.get(OFFSET, []) if pair.direction]
    return PairwiseFigures(
        negatives=_accuracies(by_negative),
        amounts={
            name: _accuracies(_grouped(sorted(group, key=_size), lambda pair: pair.amount))
            for name, group in by_negative.items()
        },
        directions=_accuracies(_grouped(offsets, lambda pair: pair.direction)),
    )


def _size(pair: ScoredPair) -> tuple[float, str]:
    """Amounts in the order of their numbers, whatever the order of a list; those without a number first."""
    number = re.search(r"\d+(\.\d+)?", pair.amount)
    return (float(number[0]) if number else -1.0, pair.amount)


def accuracy(pairs: Sequence[ScoredPair]) -> PairAccuracy:
    clips = _grouped(pairs, lambda pair: pair.clip).values()
    right = np.array([sum(pair.is_right for pair in group) for group in clips])
    counts = np.array([len(group) for group in clips])
    return PairAccuracy(
        len(counts), len(pairs), sum(pair.is_tie for pair in pairs), _clustered(right, counts)
    )


def _clustered(right: np.ndarray, counts: np.ndarray) -> Estimate:
    """The fraction of pairs that are right, of (N,) right pairs and (N,) pairs of each clip."""
    if (counts == 1).all():
        return proportion(right == 1, CHANCE)
    number, error = len(counts), np.nan
    if number > 1:
        error = jackknife_error((right.sum() - right) / (counts.sum() - counts))
    value = float(right.sum() / counts.sum())
    return of_fraction(value, error, number, number - 1).in_percent().with_chance(CHANCE)


def _grouped(pairs: Iterable[ScoredPair], name: Callable[[ScoredPair], str]) -> dict[str, list[ScoredPair]]:
    groups: dict[str, list[ScoredPair]] = {}
    for pair in pairs:
        groups.setdefault(name(pair), []).append(pair)
    return groups


def _accuracies(groups: dict[str, list[ScoredPair]]) -> dict[str, PairAccuracy]:
    return {name: accuracy(group) for name, group in groups.items()}
