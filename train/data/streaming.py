"""Clips of a prepared split as a stream: whole shards from front to back, over any protocol, with no local copy.

Each epoch visits the shards in another order. Their clips, one after the other, are cut into equal ranges, one for
each process that decodes, in every rank; each shuffles its range a chunk at a time. So all ranks do the same number
of batches and no clip comes twice, and all of it follows from the counts in the done-records. A shard on the border
of two ranges is read by both. Which clips `max_gap_s` leaves out, the index of each shard says.
"""

import io
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.tariterators import group_by_keys, tar_file_expander

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.index_row import GAP_COLUMNS, missing_s
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.dataset.schema import SCHEMA_VERSION, ClipState
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath, as_path, each, read_through, readable
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import decode_jpeg
from cavsync.train.data.loader import fingerprint, iterate_batches
from cavsync.train.data.pairs import Batch, PairRule, SampleIndex, resolved
from cavsync.train.data.sampler import Epochs, Position, epoch_order
from cavsync.train.data.store import ShardError, kept_clips, used_frames
from cavsync.train.engine.distributed import Ranks

CHUNK_STREAM = 4  # a random stream of its own, as ITEM_STREAM in pairs.py


@dataclass(frozen=True)
class Shard:
    """A tar somewhere; the clips that are read of it have the numbers [first, first + count), as in a ClipStore."""

    url: str
    first: int
    positions: Sequence[int]  # in the tar, ascending, of the clips that are read
    num_stored: int

    @property
    def count(self) -> int:
        return len(self.positions)


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
        """The frame as stored, uint8 (height, width, 3)."""
        number = self._used[frame]
        try:
            return decode_jpeg(bytearray(self.members[f"{number:02d}.jpg"]))
        except (KeyError, RuntimeError) as error:
            raise self._incomplete(f"frame {number}") from error

    def mel_of(self, frame: int, rows: int, alignment: Alignment) -> np.ndarray:
        """The audio segment of the frame: float16, at most `rows` of 128."""
        try:
            mel = np.load(io.BytesIO(self.members["mel.npy"]), allow_pickle=False)
        except (KeyError, ValueError, EOFError) as error:
            raise self._incomplete("the log-mel") from error
        start = window_starts(self._stored_pts_s, len(mel), rows, alignment)[self._used[frame]]
        window: np.ndarray = mel[start : start + rows]
        return window

    def _incomplete(self, what: str) -> ShardError:
        return ShardError(
            f"{self.url}: {what} of {self.key} is not there or damaged. Copy the shard and its file in done/ "
            "there again."
        )


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
        dataset = _open_summary(as_path(data.path))
        self.config = resolved(data, dataset)
        self.shards = _shards(dataset.paths, dataset.shard_names(data.split), data)
        self.num_left_out = sum(shard.num_stored - shard.count for shard in self.shards)
        self.epochs = Epochs(len(self), batch_size, seed)
        self.rule = PairRule(self.config, model, seed, contrast_noise)

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def identity(self) -> str:
        return fingerprint(f"{shard.url.rpartition('/')[2]} {shard.positions}" for shard in self.shards)

    def stored_frame(self) -> tuple[int, int]:
        with_clips = next(shard for shard in self.shards if shard.count)
        height, width = next(_read(with_clips, 0, 1, self.config.num_frames)).frame(0).shape[:2]
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
    """Clips [low, high) of those of a shard, read from its beginning; ShardError where they are not there."""
    positions = shard.positions[low:high]
    num_read = 0
    try:
        with read_through(as_path(shard.url)) as stream:
            samples = group_by_keys(tar_file_expander([{"url": shard.url, "stream": stream}]))
            wanted = set(positions)
            for position, members in enumerate(islice(samples, positions[-1] + 1)):
                num_read = position + 1
                if position in wanted:
                    yield StreamedClip(members, shard.url, num_frames)
    except Exception as error:  # each protocol raises errors of its own library
        raise ShardError(f"{_refused(shard.url, error)} --resume continues the run.") from error
    if num_read <= positions[-1]:
        raise ShardError(
            f"{shard.url} ends after {num_read} clips, {shard.num_stored} were prepared: it has changed. Copy the "
            "shard and its file in done/ there again."
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


def _shards(paths: DatasetPaths, names: Sequence[str], data: DataConfig) -> list[Shard]:
    """The shards, each with as many clips as its done-record counts, less those that `max_gap_s` leaves out."""
    counts = list(each(lambda name: _num_usable(paths.done(name)), names, paths.root))
    kept: list[Sequence[int]] = [range(count) for count in counts]
    if data.max_gap_s is not None and any(counts):
        where = f"{paths.root}, split {data.split!r}"
        kept = _kept_positions([paths.index(name) for name in names], counts, data.max_gap_s, where)
    firsts = np.cumsum([0, *map(len, kept[:-1])])
    return [
        Shard(str(paths.tar(name)), int(first), positions, count)
        for name, first, positions, count in zip(names, firsts, kept, counts, strict=True)
    ]


def _kept_positions(
    indexes: Sequence[AnyPath], counts: Sequence[int], max_gap_s: float, where: str
) -> list[Sequence[int]]:
    """For each shard the positions in its tar of the clips that lack `max_gap_s` at most."""
    missing = list(each(_missing_s, indexes, indexes[0].parent))
    for index, count, seconds in zip(indexes, counts, missing, strict=True):
        if len(seconds) != count:
            raise DatasetError(
                f"{index} lists {len(seconds)} prepared clips, its record in done/ {count}: copy the folders index/ and "
                "done/ there again."
            )
    is_kept = kept_clips(np.concatenate(missing), max_gap_s, where)
    of_shards = np.split(is_kept, np.cumsum(counts)[:-1])
    return [np.flatnonzero(one).tolist() for one in of_shards]


def _missing_s(index: AnyPath) -> np.ndarray:
    """float64 (clips,): the seconds that each prepared clip of a shard lacks, in order of its tar."""
    try:
        is_usable = [("state", "=", ClipState.OK)]
        return missing_s(pq.read_table(readable(index), columns=[*GAP_COLUMNS], filters=is_usable))
    except Exception as error:  # each protocol raises errors of its own library
        raise DatasetError(
            f"{_refused(index, error)} data.max_gap_s needs the index: copy the folder index/ there too."
        ) from error


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
