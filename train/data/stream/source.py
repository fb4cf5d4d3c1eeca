"""The clips of a stream, in batches of pairs.

Each epoch visits the shards in another order. Their clips, one after the other, are cut into equal ranges, one for
each process that decodes, in every rank; each shuffles its range a chunk at a time. So all ranks do the same number
of batches and no clip comes twice, and all of it follows from the counts in the done-records. A shard on the border
of two ranges is read by both.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.pipeline.storage.path import as_path
from cavsync.train.data.config import DataConfig
from cavsync.train.data.loader import fingerprint, iterate_batches
from cavsync.train.data.pairs import Batch, PairRule, SampleIndex, resolved
from cavsync.train.data.sampler import Epochs, Position, epoch_order
from cavsync.train.data.stream.clip import StreamedClip, read_clips
from cavsync.train.data.stream.shards import list_shards, open_summary
from cavsync.train.engine.distributed import Ranks

CHUNK_STREAM = 4  # a random stream of its own, as ITEM_STREAM in pairs.py


class StreamedSource:
    """A dataset folder behind a path or URL: dataset.json and the done-records are read at once, the tars as
    they are needed."""

    def __init__(
        self,
        data: DataConfig,
        model: ModelConfig,
        batch_size: int,
        seed: int,
        *,
        contrast_noise: bool = False,
    ) -> None:
        dataset = open_summary(as_path(data.path))
        self.config = resolved(data, dataset)
        self.shards = list_shards(dataset.paths, dataset.shard_names(data.split), data)
        self.num_left_out = sum(shard.num_stored - shard.count for shard in self.shards)
        self.epochs = Epochs(len(self), batch_size, seed)
        self.rule = PairRule(self.config, model, seed, contrast_noise)

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def identity(self) -> str:
        return fingerprint(f"{shard.url.rpartition('/')[2]} {shard.positions}" for shard in self.shards)

    def stored_frame(self) -> tuple[int, int]:
        with_clips = next(shard for shard in self.shards if shard.count)
        height, width = next(read_clips(with_clips, 0, 1, self.config.num_frames)).frame(0).shape[:2]
        return height, width

    def batches(self, position: Position, ranks: Ranks, device: torch.device) -> Generator[Batch, None, None]:
        num_done = position.clips_consumed // self.epochs.batch_size
        epoch = position.epoch
        batch_bytes = self.rule.bytes_of(self.epochs.batch_size // ranks.count)
        while True:
            stream = _ClipRanges(self, ranks, epoch, num_done)
            yield from iterate_batches(stream, self.config.num_workers, device, batch_bytes)
            epoch, num_done = epoch + 1, 0


@dataclass(frozen=True)
class _ClipRanges(IterableDataset[Batch | DatasetError]):
    """The rest of one epoch for one rank, in batches; iterated once in each of its workers."""

    source: StreamedSource
    ranks: Ranks
    epoch: int
    num_done: int
    """Batches that the rank has had of this epoch."""

    def __iter__(self) -> Iterator[Batch | DatasetError]:
        try:
            yield from self._batches()
        except DatasetError as error:
            yield error

    def _batches(self) -> Iterator[Batch]:
        rule, size = self.source.rule, self.source.epochs.batch_size // self.ranks.count
        first, stop, skipped = self._range(size)
        clips = islice(self._shuffled(first, stop, skipped), skipped % self._chunk, None)
        for _ in range(first + skipped, stop, size):
            yield rule.batch(
                [(SampleIndex(self.epoch, number), clip, clip) for number, clip in islice(clips, size)]
            )

    def _range(self, size: int) -> tuple[int, int, int]:
        """Positions [first, stop) in the epoch that this worker reads, and how many of those are done.

        The loader takes a batch from each worker in turn, beginning with the first. On resume the worker whose turn
        is next becomes the first.
        """
        info = get_worker_info()
        number, count = (info.id, info.num_workers) if info is not None else (0, 1)
        number = (number + self.num_done) % count
        counts = [_num_of_worker(self.source.epochs.num_batches, each, count) for each in range(count)]
        first = (self.ranks.rank * self.source.epochs.num_batches + sum(counts[:number])) * size
        return first, first + counts[number] * size, _num_of_worker(self.num_done, number, count) * size

    def _shuffled(self, first: int, stop: int, skipped: int) -> Iterator[tuple[int, StreamedClip]]:
        """(number, clip) at positions [first, stop), from the chunk on that holds position `first + skipped`."""
        for start in range(first + skipped // self._chunk * self._chunk, stop, self._chunk):
            chunk = list(self._stored(start, min(start + self._chunk, stop)))
            seeds = (CHUNK_STREAM, self.source.epochs.seed, self.epoch, start)
            for index in np.random.default_rng(seeds).permutation(len(chunk)):
                yield chunk[index]

    def _stored(self, start: int, stop: int) -> Iterator[tuple[int, StreamedClip]]:
        """(number, clip) at positions [start, stop) of the epoch, as the shards hold them."""
        position, shards = 0, self.source.shards
        for shard in (shards[n] for n in epoch_order(len(shards), self.source.epochs.seed, self.epoch)):
            low, high = max(start - position, 0), min(stop - position, shard.count)
            if low < high:
                clips = read_clips(shard, low, high, self.source.config.num_frames)
                yield from zip(range(shard.first + low, shard.first + high), clips, strict=True)
            position += shard.count

    @property
    def _chunk(self) -> int:
        return self.source.config.shuffle_clips


def _num_of_worker(num_batches: int, worker: int, num_workers: int) -> int:
    """How many of `num_batches` one worker gives when the workers take turns."""
    return (num_batches - worker + num_workers - 1) // num_workers
