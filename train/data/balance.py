"""Which clips an epoch of fine-tuning visits: a pure function of the seed and the epoch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from cavsync.train.data.sampler import Epochs, epoch_order

TURN_STREAM = 11  # apart from those of pretraining, which count from 1


class Turn(NamedTuple):
    """One visit to a clip; everything random in it follows from epoch, place and the seed.

    By place, not by clip: a clip that is drawn twice in an epoch looks different each time.
    """

    epoch: int
    place: int
    clip: int


class TurnBatches(Sampler[list[Turn]]):
    """Batches of equal size without end, from step `first_step` on.

    An epoch visits every clip once in random order, or with `weights` draws as many clips with replacement; its
    last ones, fewer than a batch, are left out.
    """

    def __init__(self, epochs: Epochs, weights: np.ndarray | None = None, first_step: int = 0) -> None:
        self.epochs, self.weights, self.first_step = epochs, weights, first_step

    def __iter__(self) -> Iterator[list[Turn]]:
        size, num_batches = self.epochs.batch_size, self.epochs.num_batches
        epoch, first = divmod(self.first_step, num_batches)
        while True:
            order = self.order(epoch)
            for batch in range(first, num_batches):
                places = range(batch * size, (batch + 1) * size)
                yield [Turn(epoch, place, int(order[place])) for place in places]
            epoch, first = epoch + 1, 0

    def order(self, epoch: int) -> np.ndarray:
        """The clips of an epoch."""
        epochs = self.epochs
        if self.weights is None:
            return epoch_order(epochs.num_clips, epochs.seed, epoch)
        rng = np.random.default_rng((TURN_STREAM, epochs.seed, epoch))
        return rng.choice(epochs.num_clips, epochs.num_clips, p=self.weights / self.weights.sum())


def class_weights(targets: torch.Tensor) -> np.ndarray:
    """How often each clip is drawn, (clips,): rare classes come as often as frequent ones.

    As upstream: the sum over a clip's labels of 1000 / (clips with that label + 0.01).
    """
    per_class = 1000 / (targets.sum(dim=0).double() + 0.01)
    return (targets.double() @ per_class).numpy()
