"""Clips of a prepared split as a stream: whole shards from front to back, over any protocol, with no local copy.

Each epoch visits the shards in another order. Their clips, one after the other, are cut into equal ranges, one for
each process that decodes, in every rank; each shuffles its range a chunk at a time. So all ranks do the same number
of batches and no clip comes twice, and all of it follows from the counts in the done-records. A shard on the border
of two ranges is read by both.
"""

import io
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.tariterators import group_by_keys, tar_file_expander

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.dataset.schema import SCHEMA_VERSION, ClipState
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath, as_path, each, read_through
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import decode_jpeg
from cavsync.train.data.loader import fingerprint, iterate_batches
from cavsync.train.data.pairs import Batch, PairRule, SampleIndex, resolved
from cavsync.train.data.sampler import Epochs, Position, epoch_order
from cavsync.train.data.store import ShardError, used_frames
from cavsync.train.engine.distributed import Ranks

CHUNK_STREAM = 4  # a random stream of its own, as ITEM_STREAM in pairs.py


@dataclass(frozen=True)
class Shard:
    """A tar somewhere; its clips have the numbers [first, first + count) of the split, as in the index."""

    url: str
    first: int
    count: int


@dataclass(frozen=True)
class StreamedClip:
    """One clip as webdataset hands it over: its members by what follows the key in their names."""

    members: dict[str, Any]
    url: str
    used: int | None = None
    """How many of its frames are used; None is all."""

    @property
    def key(self) -> str:
        return str(self.members["__key__"])

    @property
    def num_frames(self) -> int:
        return len(self._used)

    @property
    def _used(self) -> np.ndarray:
        return used_frames(len(self._stored_pts_s), self.used)

    @cached_property
    def _stored_pts_s(self) -> list[float]:
        try:
            pts_s: list[float] = json.loads(self.members["json"])["frame_pts_s"]
        except (KeyError, ValueError) as error:
            raise self._incomplete("the description") from error
        return pts_s

    def frame(self, frame: int) -> torch.Tensor:
        number = self._used[frame]
        try:
            return decode_jpeg(bytearray(self.members[f"{number:02d}.jpg"]))
        except (KeyError, RuntimeError) as error:
            raise self._incomplete(f"frame {number}") from error

    def mel_of(self, frame: int, rows: int, alignment: Alignment) -> np.ndarray:
        try:
            mel = np.load(io.BytesIO(self.members["mel.npy"]), allow_pickle=False)
        except (KeyError, ValueError, EOFError) as error:
            raise self._incomplete("the log-mel") from error
        start = window_starts(self._stored_pts_s, len(mel), rows, alignment)[self._used[frame]]
        window: np.ndarray = mel[start : start + rows]
        return window

    def _incomplete(self, what: str) -> ShardError:
        return ShardError(
            f"{self.url}: {what} of {self.key} is not there or damaged. Copy the shard and its done-record there again."
        )


class StreamedSource:
    """A dataset folder behind a path or URL: dataset.json and the done-records are read at once, the tars as
    they are needed."""

    def __init__(self, data: DataConfig, model: ModelConfig, batch_size: int, seed: int) -> None:
        dataset = _open_summary(as_path(data.path))
        self.config = resolved(data, dataset)
        self.shards = _shards(dataset.paths, dataset.shard_names(data.split))
        self.epochs = Epochs(len(self), batch_size, seed)
        self.rule = PairRule(self.config, model, seed)

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def identity(self) -> str:
        return fingerprint(f"{shard.url.rpartition('/')[2]} {shard.count}" for shard in self.shards)

    def stored_frame(self) -> tuple[int, int]:
        with_clips = next(shard for shard in self.shards if shard.count)
        height, width = next(_read(with_clips, 0, 1, self.config.num_frames)).frame(0).shape[:2]
        return height, width

    def batches(self, position: Position, ranks: Ranks, device: torch.device) -> Generator[Batch, None, None]:
        num_done = position.clips_consumed // self.epochs.batch_size
        epoch = position.epoch
        while True:
            stream = _ClipRanges(self, ranks, epoch, num_done)
            yield from iterate_batches(stream, self.config.num_workers, device)
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
                clips = _read(shard, low, high, self.source.config.num_frames)
                yield from zip(range(shard.first + low, shard.first + high), clips, strict=True)
            position += shard.count

    @property
    def _chunk(self) -> int:
        return self.source.config.shuffle_clips


def _num_of_worker(num_batches: int, worker: int, num_workers: int) -> int:
    """How many of `num_batches` one worker gives when the workers take turns."""
    return (num_batches - worker + num_workers - 1) // num_workers


def _read(shard: Shard, low: int, high: int, num_frames: int | None = None) -> Iterator[StreamedClip]:
    """Clips [low, high) of a shard, read from its beginning; ShardError where they are not there."""
    num_read = 0
    try:
        with read_through(as_path(shard.url)) as stream:
            samples = group_by_keys(tar_file_expander([{"url": shard.url, "stream": stream}]))
            for members in islice(samples, low, high):
                num_read += 1
                yield StreamedClip(members, shard.url, num_frames)
    except Exception as error:  # each protocol raises errors of its own library
        raise ShardError(f"{_refused(shard.url, error)} --resume continues the run.") from error
    if num_read < high - low:
        raise ShardError(
            f"{shard.url} ends after {low + num_read} clips, {shard.count} were prepared: it has changed. Copy the "
            "shard and its done-record there again."
        )


def _open_summary(root: AnyPath) -> Dataset:
    """The dataset at a path or URL; only its summary is at hand."""
    paths = DatasetPaths(root)
    try:
        summary = json.loads(paths.summary.read_bytes())
    except Exception as error:  # each protocol raises errors of its own library
        raise DatasetError(
            f"{_refused(paths.summary, error)} Are data.path and your credentials right?"
        ) from error
    if summary.get("schema_version") != SCHEMA_VERSION:
        raise DatasetError(
            f"{paths.summary} has schema version {summary.get('schema_version')}, not {SCHEMA_VERSION}."
        )
    return Dataset(paths, summary)


def _shards(paths: DatasetPaths, names: Sequence[str]) -> list[Shard]:
    """The shards, each with the number of clips in its done-record."""
    counts = list(each(lambda name: _num_usable(paths.done(name)), names, paths.root))
    firsts = np.cumsum([0, *counts[:-1]])
    return [
        Shard(str(paths.tar(name)), int(first), count)
        for name, first, count in zip(names, firsts, counts, strict=True)
    ]


def _num_usable(record: AnyPath) -> int:
    try:
        return DoneRecord.from_json(record.read_bytes()).states.get(ClipState.OK, 0)
    except Exception as error:  # each protocol raises errors of its own library
        raise DatasetError(f"{_refused(record, error)} Copy the folder done/ there too.") from error


def _refused(where: AnyPath | str, error: Exception) -> str:
    if isinstance(error, StoreError):
        return str(error)
    first_line = f"{type(error).__name__} {error}".partition("\n")[0]
    return f"{where} cannot be read: {first_line}."
