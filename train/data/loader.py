"""Batches of a prepared split for the training loop, in worker processes or in this one."""

import hashlib
from collections.abc import Callable, Generator, Iterable
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.train.data.config import DataConfig
from cavsync.train.data.mixture.joined import JoinedClips
from cavsync.train.data.mixture.shares import Shares
from cavsync.train.data.pair_rule import Batch
from cavsync.train.data.pairs import ClipPairs
from cavsync.train.data.sampler import Position, ShuffledBatches
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import DatasetShare
from cavsync.train.engine.overlap.loader_processes import (
    batches_ahead,
    dead_workers_explained,
    end_when_a_batch_is_lost,
    tensor_bytes,
)
from cavsync.train.engine.signals import finish_the_step

# At once, of millions.
HASHED_NAMES = 65_536


class ClipSource(Protocol):
    """The clips of a run."""

    config: DataConfig
    """That of the run, with the statistics of the dataset where the run gives none."""

    shares: Shares
    """The clips of each dataset, and how many of them an epoch takes."""

    num_left_out: int
    """Clips of the split that are not read, for `config.max_gap_s` and `config.keep`."""

    def __len__(self) -> int: ...

    def identity(self) -> str:
        """The same for the same clips in the same order only."""
        ...

    def num_repeated_keys(self) -> int | None:
        """How many clips have the key of a clip in an earlier dataset; None where the keys are not read at the start."""
        ...

    def stored_frame(self) -> tuple[int, int]:
        """Height and width of the stored frames."""
        ...

    def batches(self, position: Position, ranks: Ranks, device: torch.device) -> Generator[Batch, None, None]:
        """This rank's part of each batch from `position` on, without end."""
        ...


class IndexedSource:
    """Reads clips from a disk, at the byte offsets in the index."""

    def __init__(
        self,
        data: DataConfig,
        model: ModelConfig,
        batch_size: int,
        seed: int,
        *,
        contrast_noise: bool = False,
    ) -> None:
        self.clips = ClipPairs(data, model, seed, contrast_noise=contrast_noise)
        self.config, self.batch_size = self.clips.config, batch_size
        self.shares, self.num_left_out = self.clips.shares, self.clips.store.num_left_out

    def __len__(self) -> int:
        return len(self.clips)

    def identity(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.clips.store.identifiers())

    def num_repeated_keys(self) -> int | None:
        store = self.clips.store
        return store.num_repeated_keys() if isinstance(store, JoinedClips) else 0

    def stored_frame(self) -> tuple[int, int]:
        height, width = self.clips.store[0].frame(0).shape[:2]
        return height, width

    def batches(self, position: Position, ranks: Ranks, device: torch.device) -> Generator[Batch, None, None]:
        shares = None if self.config.weights is None else self.shares
        order = ShuffledBatches(len(self), self.batch_size, position, ranks.rank, ranks.count, shares=shares)
        return load_batches(self.clips.batch, order, self.config.num_workers, device)


def dataset_shares(config: DataConfig, shares: Shares) -> tuple[DatasetShare, ...]:
    """How much of an epoch each dataset gives; empty where there is one."""
    if len(config.paths) == 1:
        return ()
    return tuple(map(DatasetShare, config.paths, shares.sizes, shares.drawn))


def same_data(config: DataConfig) -> str:
    """The way out where a resumed run finds other clips."""
    if len(config.paths) == 1:
        return "Give the same dataset with --data."
    return "Give the same datasets in the same order, each with --data."


def fingerprint(names: Iterable[str]) -> str:
    """The same for the same names in the same order only."""
    digest, rest, separator = hashlib.sha256(), iter(names), ""
    while some := list(islice(rest, HASHED_NAMES)):
        digest.update((separator + "\n".join(some)).encode())
        separator = "\n"
    return digest.hexdigest()


def load_batches(
    make: Callable[[Any], Any], samples: Iterable[Any], num_workers: int, device: torch.device
) -> Generator[Batch, None, None]:
    """The results of `make` for each of `samples`, which can be iterated twice, in their order, computed in
    `num_workers` processes."""
    batch_bytes = _bytes_of_first(make, samples) if num_workers else 0
    return iterate_batches(_BatchDataset(make), num_workers, device, batch_bytes, sampler=samples)


def iterate_batches(
    batches: "TorchDataset[Batch | DatasetError] | IterableDataset[Batch | DatasetError]",
    num_workers: int,
    device: torch.device,
    batch_bytes: int,
    **options: Any,
) -> Generator[Batch, None, None]:
    """Whole batches of about `batch_bytes` out of `num_workers` processes; DatasetError where one of them is that.

    LoaderProcessError where they have no room, and where one of them ends.

    An expected error is a value until here: raised in a worker it would arrive with that worker's traceback as
    its message, and keep the workers alive.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=batches_ahead(batch_bytes, num_workers),
        worker_init_fn=_begin_worker,
        pin_memory=device.type == "cuda",
        # Otherwise the loader draws its seed from torch's global generator, and a resumed run differs.
        generator=torch.Generator(),
        **options,
    )
    with dead_workers_explained():
        for batch in loader:
            if isinstance(batch, DatasetError):
                raise batch
            yield batch


def _begin_worker(worker: int) -> None:
    finish_the_step(worker)
    end_when_a_batch_is_lost()


def _bytes_of_first(make: Callable[[Any], Any], samples: Iterable[Any]) -> int:
    """Bytes of the first batch, from its first sample; 0 where there is none, or it cannot be read."""
    for first in samples:
        many = isinstance(first, list)
        try:
            return tensor_bytes(make(first[:1] if many else first)) * (len(first) if many else 1)
        except DatasetError:
            return 0  # reported in its turn
    return 0


class _BatchDataset(TorchDataset[Batch | DatasetError]):
    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make

    def __getitem__(self, sample: Any) -> Batch | DatasetError:
        try:
            batch: Batch = self.make(sample)
            return batch
        except DatasetError as error:
            return error
