"""The order in which clips are trained on: a pure function of the seed and the number of clips consumed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from cavsync.pipeline.errors import CavsyncError
from cavsync.train.data import ORDER_STREAM, Draw


class TooFewClipsError(CavsyncError):
    """A dataset that does not fill one batch."""


@dataclass(frozen=True)
class Position:
    """Where a run is in its data; all that resuming needs."""

    seed: int
    epoch: int
    clips_consumed: int  # in this epoch


class ShuffledBatches(Sampler[list[Draw]]):
    """Batches of equal size without end, from `position` on; each epoch visits the clips in its own order.

    No clip comes twice in an epoch; the last clips of its order, fewer than a batch, are left out.
    """

    def __init__(self, num_clips: int, batch_size: int, position: Position) -> None:
        if num_clips < batch_size:
            raise TooFewClipsError(
                f"{num_clips} clips do not fill one batch of {batch_size}: "
                f"prepare more videos or lower the batch, with --set batch_size={num_clips}."
            )
        self.num_clips, self.batch_size, self.position = num_clips, batch_size, position

    def __iter__(self) -> Iterator[list[Draw]]:
        seed, epoch, first = self.position.seed, self.position.epoch, self.position.clips_consumed
        while True:
            order = np.random.default_rng((ORDER_STREAM, seed, epoch)).permutation(self.num_clips)
            for start in range(first, self.num_clips - self.batch_size + 1, self.batch_size):
                yield [Draw(epoch, int(clip)) for clip in order[start : start + self.batch_size]]
            epoch, first = epoch + 1, 0

    def starting_at(self, position: Position) -> "ShuffledBatches":
        return ShuffledBatches(self.num_clips, self.batch_size, position)

    def position_after(self, num_batches: int) -> Position:
        """Where the run is once it has consumed `num_batches` batches from its very beginning."""
        epoch, batch = divmod(num_batches, self.num_clips // self.batch_size)
        return Position(self.position.seed, epoch, batch * self.batch_size)
