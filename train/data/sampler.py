"""The order in which clips are trained on: a pure function of the seed and the number of clips consumed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from cavsync.errors import CavsyncError
from cavsync.train.data.mixture.shares import Shares
from cavsync.train.data.pair_rule import ORDER_STREAM, SampleIndex


class TooFewClipsError(CavsyncError):
    """A dataset that does not fill one batch."""


@dataclass(frozen=True)
class Position:
    """Where a run is in its data; all that resuming needs."""

    seed: int
    epoch: int
    clips_consumed: int  # in this epoch, over all ranks


@dataclass(frozen=True)
class Epochs:
    """Passes over `num_clips` clips in whole batches: no clip comes twice in one, the rest is left out."""

    num_clips: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_clips < self.batch_size:
            raise TooFewClipsError(
                f"{self.num_clips} clip{'' if self.num_clips == 1 else 's'} do not fill one batch of {self.batch_size}: "
                f"prepare more videos or lower the batch, with --batch-size {self.num_clips}."
            )

    @property
    def num_batches(self) -> int:
        """In one epoch."""
        return self.num_clips // self.batch_size

    def position_after(self, num_batches: int) -> Position:
        """Where the run is once it has consumed `num_batches` batches from its very beginning."""
        epoch, batch = divmod(num_batches, self.num_batches)
        return Position(self.seed, epoch, batch * self.batch_size)


class ShuffledBatches(Sampler[list[SampleIndex]]):
    """Batches without end, from `position` on; each epoch visits the clips in another order, all of them, or with `shares`
    so many of each dataset.

    Of each batch, rank `rank` of `num_ranks` gets its part: the batches of all ranks together do not depend on
    the number of ranks.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        position: Position,
        rank: int = 0,
        num_ranks: int = 1,
        *,
        shares: Shares | None = None,
    ) -> None:
        self.epochs, self.position = Epochs(num_clips, batch_size, position.seed), position
        self.shares = shares
        part = batch_size // num_ranks
        self.part = slice(rank * part, (rank + 1) * part)

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        epoch, first, size = self.position.epoch, self.position.clips_consumed, self.epochs.batch_size
        while True:
            passes, order = self._order(epoch)
            for start in range(first, self.epochs.num_batches * size, size):
                part = slice(start + self.part.start, start + self.part.stop)
                yield list(map(SampleIndex, passes[part].tolist(), order[part].tolist()))
            epoch, first = epoch + 1, 0

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """How often each clip of the epoch came before, and its number, both int (clips,)."""
        if self.shares is not None:
            return self.shares.draws(self.position.seed, epoch, apart=self.epochs.batch_size)
        order = epoch_order(self.epochs.num_clips, self.position.seed, epoch)
        return np.full(len(order), epoch), order


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers below `count` in the order of one epoch, int (count,)."""
    return np.random.default_rng((ORDER_STREAM, seed, epoch)).permutation(count)


CLASS_ORDER_STREAM = 11  # apart from those of pretraining, which count from 1


class EpochSample(NamedTuple):
    """One sample of an epoch; everything random in it follows from epoch, position and the seed.

    By position, not by clip: a clip that is drawn twice in an epoch is augmented differently each time.
    """

    epoch: int
    position: int  # in the order of the epoch
    clip: int


class EpochBatchSampler(Sampler[list[EpochSample]]):
    """Batches of equal size without end, from step `first_step` on.

    An epoch visits every clip once in random order, or with `shares` so many of each dataset; with `weights` it draws
    as many clips with replacement. Its last ones, fewer than a batch, are left out.
    """

    def __init__(
        self,
        epochs: Epochs,
        weights: np.ndarray | None = None,
        first_step: int = 0,
        *,
        shares: Shares | None = None,
    ) -> None:
        self.epochs, self.weights, self.first_step, self.shares = epochs, weights, first_step, shares

    def __iter__(self) -> Iterator[list[EpochSample]]:
        size, num_batches = self.epochs.batch_size, self.epochs.num_batches
        epoch, first = divmod(self.first_step, num_batches)
        while True:
            order = self.order(epoch)
            for batch in range(first, num_batches):
                indices = range(batch * size, (batch + 1) * size)
                yield [EpochSample(epoch, index, int(order[index])) for index in indices]
            epoch, first = epoch + 1, 0

    def order(self, epoch: int) -> np.ndarray:
        """The clips of an epoch in their order, int (clips,)."""
        epochs = self.epochs
        if self.weights is None and self.shares is not None:
            return self.shares.draws(epochs.seed, epoch, apart=epochs.batch_size)[1]
        if self.weights is None:
            return epoch_order(epochs.num_clips, epochs.seed, epoch)
        rng = np.random.default_rng((CLASS_ORDER_STREAM, epochs.seed, epoch))
        return rng.choice(epochs.num_clips, epochs.num_clips, p=self.weights / self.weights.sum())


def class_weights(targets: torch.Tensor) -> np.ndarray:
    """Weights that clips are drawn with, float64 (clips,), from `targets` (clips, classes): rare classes come as
    often as frequent ones.

    As upstream: the sum over a clip's labels of 1000 / (clips with that label + 0.01).
    """
    per_class = 1000 / (targets.sum(dim=0).double() + 0.01)
    return (targets.double() @ per_class).numpy()
