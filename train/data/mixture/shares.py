"""How many clips of each dataset an epoch takes, and which: a pure function of the seed and the epoch.

The clips of a dataset form one sequence without end: pass after pass over it, each in an order of its own. An epoch
takes the next ones of every sequence, so of a dataset with a small share all clips come before one comes again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from cavsync.pipeline.dataset.reader import DatasetError

# First words of seeds, as in pair_rule.py: of which dataset comes when, and of the order of a dataset's clips.
OWNER_STREAM, PASS_STREAM = 6, 7


@dataclass(frozen=True)
class Shares:
    """Of each dataset its clips, and how many of them an epoch takes; both have the same sum."""

    sizes: tuple[int, ...]
    drawn: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[int], weights: Sequence[float] | None, paths: Sequence[str]) -> "Shares":
        """The whole numbers nearest to the `weights`, by largest remainder; without weights every clip once.

        Raises DatasetError where a weight is too small for one clip.
        """
        if weights is None:
            return cls(tuple(sizes), tuple(sizes))
        exact = np.array(weights) / sum(weights) * sum(sizes)
        drawn = np.floor(exact).astype(int)
        largest = np.argsort(drawn - exact, kind="stable")[: sum(sizes) - drawn.sum()]
        drawn[largest] += 1
        for path, weight, count in zip(paths, weights, drawn, strict=True):
            if count == 0:
                raise DatasetError(
                    f"data.weights gives {path} a weight of {weight:g}, which is less than one of the {sum(sizes):,} clips "
                    "of an epoch: raise it, or leave the dataset out."
                )
        return cls(tuple(sizes), tuple(drawn.tolist()))

    @property
    def fractions(self) -> np.ndarray:
        """The part of an epoch that each dataset has, float64 (datasets,)."""
        return np.array(self.drawn) / sum(self.drawn)

    @cached_property
    def firsts(self) -> list[int]:
        """The number of each dataset's first clip where all clips are numbered through, and after them the end."""
        bounds: list[int] = np.cumsum([0, *self.sizes]).tolist()
        return bounds

    def draws(self, seed: int, epoch: int, apart: int) -> tuple[np.ndarray, np.ndarray]:
        """The clips of an epoch in their order: which pass over its dataset each belongs to, and its number, both int
        (clips,).

        Between two visits of a clip lie `apart` others of its dataset, where that has three times as many clips.
        """
        owners = np.random.default_rng((OWNER_STREAM, seed, epoch)).permutation(
            np.repeat(np.arange(len(self.sizes)), self.drawn)
        )
        passes, clips = np.empty_like(owners), np.empty_like(owners)
        for dataset, count in enumerate(self.drawn):
            is_own, at = owners == dataset, epoch * count
            parts = list(self.passes(dataset, at, at + count))
            orders = [self._pass_order(seed, dataset, number, apart)[low:high] for number, low, high in parts]
            passes[is_own] = np.repeat([part[0] for part in parts], [len(order) for order in orders])
            clips[is_own] = self.firsts[dataset] + np.concatenate(orders)
        return passes, clips

    def passes(self, dataset: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Places [start, stop) of a dataset's sequence as (pass, low, high): places [low, high) of each pass."""
        size = self.sizes[dataset]
        for number in range(start // size, -(-stop // size)):
            yield number, max(start - number * size, 0), min(stop - number * size, size)

    def interleaved(self, dataset: int, start: int, stop: int) -> tuple[int, int]:
        """How many clips of the dataset come before `start`, and before `stop`, where the clips of an epoch take turns as
        evenly as their numbers allow."""
        if len(self.sizes) == 1:
            return start, stop
        before = np.searchsorted(self._turns[dataset], [start, stop])
        return int(before[0]), int(before[1])

    def balanced(self, weights: np.ndarray) -> np.ndarray:
        """`weights`, float (clips,), scaled within each dataset so that their sum is the dataset's part of an epoch."""
        parts = [weights[first:stop] for first, stop in pairwise(self.firsts)]
        return np.concatenate(
            [part / part.sum() * fraction for part, fraction in zip(parts, self.fractions, strict=True)]
        )

    @cached_property
    def _turns(self) -> list[np.ndarray]:
        """For each dataset the places in an epoch, ascending, int (drawn,)."""
        when = np.concatenate([(np.arange(count) + 0.5) / count for count in self.drawn])
        owners = np.repeat(np.arange(len(self.drawn)), self.drawn)[np.argsort(when, kind="stable")]
        return [np.flatnonzero(owners == dataset) for dataset in range(len(self.drawn))]

    def _pass_order(self, seed: int, dataset: int, number: int, apart: int) -> np.ndarray:
        """The dataset's clips in the order of one pass, int (clips,)."""
        size = self.sizes[dataset]
        order, before = (
            np.random.default_rng((PASS_STREAM, seed, dataset, one)).permutation(size)
            for one in (number, max(number - 1, 0))
        )
        # Only the first two thirds change, so that the last clips of the pass before are known without the one before it.
        last = before[size - min(apart, size // 3) :] if number else before[:0]
        return later(order, last)


def later(order: np.ndarray, last: np.ndarray) -> np.ndarray:
    """`order`, int (clips,), with the first len(last) clips in front that are not in `last`."""
    earliest = np.flatnonzero(~np.isin(order, last))[: len(last)]
    return np.concatenate([order[earliest], np.delete(order, earliest)])
