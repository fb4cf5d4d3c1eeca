"""The order in which clips are trained on: a pure function of the seed and the number of clips consumed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from cavsync.pipeline.errors import CavsyncError
from cavsync.train.data.pairs import ORDER_STREAM, Draw


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
                f"{self.num_clips} clips do not fill one batch of {self.batch_size}: "
                f"prepare more videos or lower the batch, with --set batch_size={self.num_clips}."
            )

    @property
    def num_batches(self) -> int:
        """In one epoch."""
        return self.num_clips // self.batch_size

    def position_after(self, num_batches: int) -> Position:
        """Where the run is once it has consumed `num_batches` batches from its very beginning."""
        epoch, batch = divmod(num_batches, self.num_batches)
        return Position(self.seed, epoch, batch * self.batch_size)


class ShuffledBatches(Sampler[list[Draw]]):
    """Batches without end, from `position` on; each epoch visits the clips in its own order.

    Of each batch, rank `rank` of `num_ranks` gets its part: together they see the same batches, however many
    they are.
    """

    def __init__(
        self, num_clips: int, batch_size: int, position: Position, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self.epochs, self.position = Epochs(num_clips, batch_size, position.seed), position
        part = batch_size // num_ranks
        self.part = slice(rank * part, (rank + 1) * part)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, first, size = self.position.epoch, self.position.clips_consumed, self.epochs.batch_size
        while True:
            order = epoch_order(self.epochs.num_clips, self.position.seed, epoch)
            for start in range(first, self.epochs.num_batches * size, size):
                yield [Draw(epoch, int(clip)) for clip in order[start : start + size][self.part]]
            epoch, first = epoch + 1, 0


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers below `count` in the order of one epoch."""
    return np.random.default_rng((ORDER_STREAM, seed, epoch)).permutation(count)
