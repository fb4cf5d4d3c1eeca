"""The clips of a stream, in batches of pairs.

A pass over the shards visits them in an order of its own and makes `pairs_per_read` pairs of each clip, so that it
gives as many batches as that many epochs. The clips, one after the other, are cut into equal ranges, one for each
process that decodes, in every rank; each shuffles its range a chunk at a time. So all ranks do the same number of
batches, and no clip is read twice, but by the shards on the border of two ranges. All of it follows from the counts in
the done-records. The pairs of a clip are those that the index would give in the same epochs. Clips of several datasets
take turns in a pass, as evenly as their numbers allow, so that each chunk has its part of all of them.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.pipeline.storage.path import as_path
from cavsync.train.data.config import DataConfig
from cavsync.train.data.loader import fingerprint, iterate_batches
from cavsync.train.data.mixture.datasets import key_prefixes, require_alike
from cavsync.train.data.mixture.shares import Shares, later
from cavsync.train.data.pair_rule import Batch, PairRule, SampleIndex
from cavsync.train.data.pairs import resolved
from cavsync.train.data.sampler import Epochs, Position, epoch_order
from cavsync.train.data.stream.clip import StreamedClip, read_clips
from cavsync.train.data.stream.shards import list_shards, open_summary
from cavsync.train.engine.config import require
from cavsync.train.engine.distributed import Ranks

CHUNK_STREAM = 4  # a random stream of its own, as ITEM_STREAM in pair_rule.py


class StreamedSource:
    """Dataset folders behind paths or URLs: dataset.json and the done-records are read at once, the tars as they are
    needed."""

    def __init__(
        self,
        data: DataConfig,
        model: ModelConfig,
        batch_size: int,
        seed: int,
        *,
        contrast_noise: bool = False,
    ) -> None:
        datasets = [open_summary(as_path(path)) for path in data.paths]
        require_alike(datasets, data.num_frames)
        prefixes = key_prefixes(data.paths)
        self.shards = [
            list_shards(dataset, data, number, prefixes[number]) for number, dataset in enumerate(datasets)
        ]
        sizes = [sum(shard.count for shard in shards) for shards in self.shards]
        for dataset, size in zip(datasets, sizes, strict=True):
            if len(sizes) > 1 and not size:
                raise dataset.no_usable_clip(data.split)
        self.shares = Shares.of(sizes, data.weights, data.paths)
        self.config = resolved(data, datasets, self.shares)
        self.num_left_out = sum(shard.num_stored - shard.count for shard in chain(*self.shards))
        self.epochs = Epochs(len(self), batch_size, seed)
        self.rule = PairRule(self.config, model, seed, contrast_noise)

    def __len__(self) -> int:
        return sum(self.shares.sizes)

    def identity(self) -> str:
        several = len(self.shards) > 1
        return fingerprint(
            f"{f'{number}/' if several else ''}{shard.url.rpartition('/')[2]} {shard.positions}"
            for number, shards in enumerate(self.shards)
            for shard in shards
        )

    def num_repeated_keys(self) -> int | None:
        return None if len(self.shards) > 1 else 0

    def stored_frame(self) -> tuple[int, int]:
        with_clips = next(shard for shard in chain(*self.shards) if shard.count)
        height, width = next(read_clips(with_clips, 0, 1, self.config.num_frames)).frame(0).shape[:2]
        return height, width

    def batches(self, position: Position, ranks: Ranks, device: torch.device) -> Generator[Batch, None, None]:
        """Raises ConfigError where `pairs_per_read` does not go with the batches of a process."""
        size = self.epochs.batch_size // ranks.count
        _require_apart(self.config, size)
        return self._passes(position, ranks, device, self.rule.bytes_of(size))

    def _passes(
        self, position: Position, ranks: Ranks, device: torch.device, batch_bytes: int
    ) -> Generator[Batch, None, None]:
        number, epoch = divmod(position.epoch, self.config.pairs_per_read)
        num_done = epoch * self.epochs.num_batches + position.clips_consumed // self.epochs.batch_size
        while True:
            stream = _Pass(self, ranks, number, num_done)
            yield from iterate_batches(stream, self.config.num_workers, device, batch_bytes)
            number, num_done = number + 1, 0


@dataclass(frozen=True)
class _Pass(IterableDataset[Batch | DatasetError]):
    """The rest of one pass over the shards for one rank, in batches; iterated once in each of its workers."""

    source: StreamedSource
    ranks: Ranks
    number: int
    num_done: int
    """Batches that the rank has had of this pass."""

    def __iter__(self) -> Iterator[Batch | DatasetError]:
        try:
            yield from self._batches()
        except DatasetError as error:
            yield error

    def _batches(self) -> Iterator[Batch]:
        rule, size = self.source.rule, self.source.epochs.batch_size // self.ranks.count
        first, stop, num_done = self._range(size // self._per_read)
        pairs = self._pairs(first, stop, num_done * size, size)
        for _ in range(num_done * size, (stop - first) * self._per_read, size):
            yield rule.batch([(sample, clip, clip) for sample, clip in islice(pairs, size)])

    def _range(self, clips_per_batch: int) -> tuple[int, int, int]:
        """Positions [first, stop) in the pass that this worker reads, and how many of its batches are done.

        The loader takes a batch from each worker in turn, beginning with the first. On resume the worker whose turn
        is next becomes the first.
        """
        info = get_worker_info()
        number, count = (info.id, info.num_workers) if info is not None else (0, 1)
        number = (number + self.num_done) % count
        num_batches = self.source.epochs.num_batches * self._per_read
        counts = [_num_of_worker(num_batches, each, count) for each in range(count)]
        first = (self.ranks.rank * num_batches + sum(counts[:number])) * clips_per_batch
        num_done = _num_of_worker(self.num_done, number, count)
        return first, first + counts[number] * clips_per_batch, num_done

    def _pairs(
        self, first: int, stop: int, num_done: int, size: int
    ) -> Iterator[tuple[SampleIndex, StreamedClip]]:
        """The pairs of the clips at positions [first, stop), without the first `num_done`, for batches of `size`."""
        for low, high in _chunks(first, stop, self.source.config.shuffle_clips, size, self._per_read):
            num_pairs = (high - low) * self._per_read
            if num_done < num_pairs:
                chunk = list(self._stored(low, high))
                rng = np.random.default_rng((CHUNK_STREAM, self.source.epochs.seed, self.number, low))
                for time, index in islice(visits(rng, len(chunk), self._per_read, size), num_done, None):
                    number, clip, stored = chunk[index]
                    yield SampleIndex(number * self._per_read + time, clip), stored
            num_done = max(0, num_done - num_pairs)

    def _stored(self, start: int, stop: int) -> Iterator[tuple[int, int, StreamedClip]]:
        """(pass, number, clip) at positions [start, stop) of this pass, dataset by dataset, as the shards hold them.

        A dataset that an epoch takes more or less of than once has passes of its own, which the first number counts.
        """
        shares = self.source.shares
        for dataset, drawn in enumerate(shares.drawn):
            low, high = (self.number * drawn + at for at in shares.interleaved(dataset, start, stop))
            for number, first, last in shares.passes(dataset, low, high):
                for clip, stored in self._of_dataset(dataset, number, first, last):
                    yield number, shares.firsts[dataset] + clip, stored

    def _of_dataset(
        self, dataset: int, number: int, start: int, stop: int
    ) -> Iterator[tuple[int, StreamedClip]]:
        """(number, clip) at positions [start, stop) of a pass over one dataset."""
        position, shards = 0, self.source.shards[dataset]
        for shard in (shards[n] for n in epoch_order(len(shards), self.source.epochs.seed, number)):
            low, high = max(start - position, 0), min(stop - position, shard.count)
            if low < high:
                clips = read_clips(shard, low, high, self.source.config.num_frames)
                yield from zip(range(shard.first + low, shard.first + high), clips, strict=True)
            position += shard.count

    @property
    def _per_read(self) -> int:
        return self.source.config.pairs_per_read


def visits(rng: np.random.Generator, count: int, times: int, apart: int) -> Iterator[tuple[int, int]]:
    """(time, index) of `count` clips that are visited `times` times, each time all of them in a new order.

    Between two visits of a clip lie `apart` others or more, where there are twice as many clips.
    """
    last = np.empty(0, np.int64)
    for time in range(times):
        order = later(rng.permutation(count), last)
        yield from ((time, index) for index in order.tolist())
        last = order[-apart:]


def _chunks(first: int, stop: int, size: int, batch: int, per_read: int) -> Iterator[tuple[int, int]]:
    """[first, stop) cut into chunks of `size`; what is too small a rest for `visits` goes with the chunk before."""
    least = 1 if per_read == 1 else 2 * batch
    starts = [start for start in range(first, stop, size) if start == first or stop - start >= least]
    yield from zip(starts, [*starts[1:], stop], strict=True)


def _num_of_worker(num_batches: int, worker: int, num_workers: int) -> int:
    """How many of `num_batches` one worker gives when the workers take turns."""
    return (num_batches - worker + num_workers - 1) // num_workers


def _require_apart(data: DataConfig, size: int) -> None:
    """ConfigError unless batches of `size` divide into reads, and chunks are large enough for `visits`."""
    if data.pairs_per_read == 1:
        return
    require(
        size % data.pairs_per_read == 0,
        f"data.pairs_per_read={data.pairs_per_read} does not divide the {size} clips of a batch in each process.",
    )
    require(
        data.shuffle_clips >= 2 * size,
        f"data.pairs_per_read={data.pairs_per_read} with data.shuffle_clips={data.shuffle_clips} would put two pairs of "
        f"a clip into one batch: set data.shuffle_clips={2 * size} or more, twice the {size} clips of a batch in each process.",
    )
