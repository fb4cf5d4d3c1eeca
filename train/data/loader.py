"""Batches from a prepared split to the loop, from a disk where every clip can be read by itself."""

import hashlib
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.train.data.config import DataConfig
from cavsync.train.data.pairs import Batch, ClipPairs
from cavsync.train.data.sampler import Position, ShuffledBatches
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.signals import outlive_the_step
from cavsync.train.pretrain.config import TrainConfig


class Source(Protocol):
    """Where a run's clips come from."""

    config: DataConfig
    """The run's, with what it leaves to the dataset."""

    def __len__(self) -> int: ...

    def identity(self) -> str:
        """The same for the same clips in the same order only."""
        ...

    def stored_frame(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        ...

    def batches(self, position: Position, ranks: Ranks, device: torch.device) -> Generator[Batch, None, None]:
        """This rank's part of each batch from `position` on, without end."""
        ...


class IndexedSource:
    """Reads clips at the offsets that the index tells."""

    def __init__(self, config: TrainConfig) -> None:
        self.clips = ClipPairs(config.data, config.model, config.seed)
        self.config, self.batch_size = self.clips.config, config.batch_size

    def __len__(self) -> int:
        return len(self.clips)

    def identity(self) -> str:
        return fingerprint(self.clips.store.keys)

    def stored_frame(self) -> tuple[int, int]:
        height, width = self.clips.store.frame(0, 0).shape[:2]
        return height, width

    def batches(self, position: Position, ranks: Ranks, device: torch.device) -> Generator[Batch, None, None]:
        order = ShuffledBatches(len(self), self.batch_size, position, ranks.rank, ranks.count)
        return batches_of(self.clips.batch, order, self.config.num_workers, device)


def fingerprint(names: Iterable[str]) -> str:
    """The same for the same names in the same order only."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def batches_of(
    make: Callable[[Any], Any], places: Iterable[Any], num_workers: int, device: torch.device
) -> Generator[Batch, None, None]:
    """What `make` gives for each of `places`, in their order, made in `num_workers` processes."""
    return loaded(_Made(make), num_workers, device, sampler=places)


def loaded(
    batches: "TorchDataset[Batch | DatasetError] | IterableDataset[Batch | DatasetError]",
    num_workers: int,
    device: torch.device,
    **options: Any,
) -> Generator[Batch, None, None]:
    """Whole batches out of `num_workers` processes; DatasetError where one of them is that.

    An expected error is a value until here: raised in a worker it would arrive with that worker's traceback as
    its message, and keep the workers alive.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=outlive_the_step,
        pin_memory=device.type == "cuda",
        # Otherwise the loader takes its seed from torch's own generator, and a resumed run goes astray.
        generator=torch.Generator(),
        **options,
    )
    for batch in loader:
        if isinstance(batch, DatasetError):
            raise batch
        yield batch


class _Made(TorchDataset[Batch | DatasetError]):
    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make

    def __getitem__(self, place: Any) -> Batch | DatasetError:
        try:
            made: Batch = self.make(place)
            return made
        except DatasetError as error:
            return error
