"""Random access to the clips of a prepared split: bytes at known offsets, no tar is scanned."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.index_row import GAP_COLUMNS, missing_s
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.sampling import spread, window_starts
from cavsync.pipeline.dataset.schema import NUM_MELS
from cavsync.pipeline.storage.path import AnyPath, num_bytes
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import decode_jpeg

MEL_ROW_BYTES = NUM_MELS * 2  # float16
COLUMNS = (
    *("key", "labels", "frame_pts_s", "num_mel_rows", "frame_offset", "frame_size"),
    *("mel_offset", "mel_size", "json_offset", "json_size", "crc32"),
)


# Sums of times are off by less.
SAME_LENGTH_S = 1e-6


class ShardError(DatasetError):
    """A shard that is missing or not what its index says; the message names the file."""


class ClipStore:
    """The clips of one split, numbered in shard order.

    Holds the index as flat arrays and no open file, so it may be forked or pickled into workers. Every method
    that reads raises ShardError where the shard's bytes are not what the index promises.
    """

    def __init__(
        self,
        dataset: Dataset,
        role: str,
        *,
        num_frames: int | None = None,
        check_crc: bool = False,
        max_gap_s: float | None = None,
    ) -> None:
        """Of each clip `num_frames` frames, spread over it; all of them by default.

        `max_gap_s` leaves out the clips that lack more seconds of audio, or of frames, and `num_left_out` counts
        them; DatasetError where none is left.
        """
        _require_local(dataset)
        index = dataset.index_table(role, COLUMNS if max_gap_s is None else (*COLUMNS, *GAP_COLUMNS))
        self.num_left_out = 0
        if max_gap_s is not None:
            is_kept = kept_clips(missing_s(index), max_gap_s, f"{dataset.paths.root}, split {role!r}")
            self.num_left_out = int(np.sum(~is_kept))
            index = index.filter(pa.array(is_kept))
        self._num_frames, self._check_crc = num_frames, check_crc
        self.keys: list[str] = index["key"].to_pylist()
        self._labels = index["labels"]
        shards: list[str] = index["shard"].unique().to_pylist()  # sorted, as the index is
        self._shard = np.searchsorted(shards, index["shard"].to_numpy())
        self._tars = [str(dataset.paths.tar(shard)) for shard in shards]
        self._records = [str(dataset.paths.done(shard)) for shard in shards]
        self._num_rows = index["num_mel_rows"].to_numpy().astype(np.int64)
        self._span = {name: index[name].to_numpy().astype(np.int64) for name in COLUMNS[6:]}
        num_frames_stored = pc.list_value_length(index["frame_size"]).to_numpy()
        self._first = np.concatenate([[0], np.cumsum(num_frames_stored)])
        self._pts_s, self._frame_offset, self._frame_size = (
            pc.list_flatten(index[name]).to_numpy() for name in ("frame_pts_s", "frame_offset", "frame_size")
        )
        for count in set(np.diff(self._first).tolist()):
            used_frames(count, num_frames)
        for shard in shards:
            _check_tar(dataset.paths, shard)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labels(self) -> list[list[str]]:
        """The ids of each clip's labels."""
        labels: list[list[str]] = self._labels.to_pylist()
        return labels

    def __getitem__(self, clip: int) -> "StoredClip":
        return StoredClip(self, clip)

    def num_frames(self, clip: int) -> int:
        return len(self._used(clip))

    def frame_pts_s(self, clip: int) -> np.ndarray:
        """Presentation times of the clip's frames, float64 (frames,), seconds from its start."""
        pts_s: np.ndarray = self._stored_pts_s(clip)[self._used(clip)]
        return pts_s

    def window_starts(self, clip: int, window_rows: int, alignment: Alignment) -> np.ndarray:
        """First mel row of each frame's audio segment of `window_rows` rows, int (frames,)."""
        pts_s, num_rows = self._stored_pts_s(clip), int(self._num_rows[clip])
        # A frame's window does not depend on which others are used.
        starts: np.ndarray = window_starts(pts_s, num_rows, window_rows, alignment)[self._used(clip)]
        return starts

    def frame(self, clip: int, frame: int) -> torch.Tensor:
        """The frame as stored, uint8 (height, width, 3)."""
        return self._frames(clip, self._first[clip] + self._used(clip)[[frame]])[0]

    def frames(self, clip: int) -> list[torch.Tensor]:
        """All frames of the clip in order of time, each uint8 (height, width, 3)."""
        return self._frames(clip, self._first[clip] + self._used(clip))

    def mel_rows(self, clip: int, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of the log-mel, float16 (rows, 128); fewer where the clip ends before `stop`."""
        rows = int(self._num_rows[clip])
        start, stop = min(start, rows), min(stop, rows)
        # What precedes the numbers in a .npy file is its header.
        header = self._span["mel_size"][clip] - rows * MEL_ROW_BYTES
        offset = self._span["mel_offset"][clip] + header + start * MEL_ROW_BYTES
        (content,) = self._read(clip, [(int(offset), (stop - start) * MEL_ROW_BYTES)])
        return np.frombuffer(content, np.float16).reshape(-1, NUM_MELS)

    def mel(self, clip: int) -> np.ndarray:
        """The whole log-mel, float16 (rows, 128)."""
        return self.mel_rows(clip, 0, int(self._num_rows[clip]))

    def _stored_pts_s(self, clip: int) -> np.ndarray:
        pts_s: np.ndarray = self._pts_s[self._first[clip] : self._first[clip + 1]]
        return pts_s

    def _used(self, clip: int) -> np.ndarray:
        """Which of the stored frames are used."""
        return used_frames(int(self._first[clip + 1] - self._first[clip]), self._num_frames)

    def _frames(self, clip: int, numbers: np.ndarray) -> list[torch.Tensor]:
        spans = zip(self._frame_offset[numbers], self._frame_size[numbers], strict=True)
        contents = self._read(clip, [(int(offset), int(size)) for offset, size in spans])
        return [self._decode(clip, content) for content in contents]

    def _decode(self, clip: int, content: bytearray) -> torch.Tensor:
        try:
            return decode_jpeg(content)
        except RuntimeError as error:
            raise self._changed(clip, f"a frame of {self.keys[clip]} is no JPEG ({error})") from error

    def _read(self, clip: int, spans: Sequence[tuple[int, int]]) -> list[bytearray]:
        """The bytes at each (offset, size) of the clip's tar."""
        try:
            file = os.open(self._tars[self._shard[clip]], os.O_RDONLY)
        except FileNotFoundError as error:
            raise self._changed(clip, "it is gone") from error
        try:
            if self._check_crc:
                self._compare_crc(clip, file)
            contents = [bytearray(size) for _, size in spans]
            num_read = [
                os.preadv(file, [content], offset)
                for content, (offset, _) in zip(contents, spans, strict=True)
            ]
        finally:
            os.close(file)
        if any(count != size for count, (_, size) in zip(num_read, spans, strict=True)):
            raise self._changed(clip, f"it ends before {self.keys[clip]} does")
        return contents

    def _compare_crc(self, clip: int, file: int) -> None:
        frames = slice(self._first[clip], self._first[clip + 1])
        spans = [*zip(self._frame_offset[frames], self._frame_size[frames], strict=True)]
        spans += [
            (self._span[f"{part}_offset"][clip], self._span[f"{part}_size"][clip]) for part in ("json", "mel")
        ]
        crc = 0
        for offset, size in spans:
            crc = zlib.crc32(os.pread(file, int(size), int(offset)), crc)
        if crc != self._span["crc32"][clip]:
            raise self._changed(clip, f"the checksum of {self.keys[clip]} is {crc}, not that of the index")

    def _changed(self, clip: int, what: str) -> ShardError:
        shard = self._shard[clip]
        return ShardError(
            f"{self._tars[shard]} is not what was prepared: {what}. {_make_again(self._records[shard])}"
        )


def open_clips(config: DataConfig, dataset: Dataset, max_gap_s: float | None = None) -> ClipStore:
    """The clips of the split that `config` names, and of each the frames that it uses.

    Training passes `config.max_gap_s`; validation and evaluation take all clips.
    """
    return ClipStore(
        dataset,
        config.split,
        num_frames=config.num_frames,
        check_crc=config.check_crc,
        max_gap_s=max_gap_s,
    )


def kept_clips(missing_s: np.ndarray, max_gap_s: float, where: str) -> np.ndarray:
    """bool (clips,): whether each clip lacks `max_gap_s` at most, from the float64 (clips,) seconds that it lacks.

    Raises DatasetError where none does; `where` names the clips.
    """
    is_kept: np.ndarray = missing_s <= max_gap_s + SAME_LENGTH_S
    if not is_kept.any():
        raise DatasetError(
            f"data.max_gap_s={max_gap_s:g} leaves no clip of {where}: each of its {len(missing_s):,} clips lacks "
            f"{missing_s.min():.2f} s of audio or frames, or more. Raise it, or take all clips with "
            "--set data.max_gap_s=none."
        )
    return is_kept


@dataclass(frozen=True)
class StoredClip:
    """One clip of a store."""

    store: ClipStore
    number: int

    @property
    def key(self) -> str:
        return self.store.keys[self.number]

    @property
    def num_frames(self) -> int:
        return self.store.num_frames(self.number)

    def frame(self, frame: int) -> torch.Tensor:
        """The frame as stored, uint8 (height, width, 3)."""
        return self.store.frame(self.number, frame)

    def mel_of(self, frame: int, rows: int, alignment: Alignment) -> np.ndarray:
        """The audio segment of the frame: float16, at most `rows` of 128."""
        start = int(self.store.window_starts(self.number, rows, alignment)[frame])
        return self.store.mel_rows(self.number, start, start + rows)


@cache
def used_frames(num_stored: int, num_frames: int | None) -> np.ndarray:
    """The numbers of the stored frames that are used, int (num_frames,); DatasetError where fewer are stored."""
    if num_frames is None:
        return np.arange(num_stored)
    if num_frames > num_stored:
        raise DatasetError(
            f"data.num_frames={num_frames}, and a clip was prepared with {num_stored} frames: lower it, or prepare "
            f"the dataset again with --num-frames {num_frames}."
        )
    return spread(num_stored, num_frames)


def _require_local(dataset: Dataset) -> None:
    root = dataset.paths.root
    if not isinstance(root, Path):
        raise DatasetError(
            f"{root} is a URL, from which clips can only be trained on as a stream: --set data.source=stream. For "
            "anything else copy the dataset to a disk."
        )


def _check_tar(paths: DatasetPaths, shard: str) -> None:
    """The tar is there and as long as its done-record says; no byte of it is read."""
    tar, record = paths.tar(shard), paths.done(shard)
    if not tar.is_file():
        raise ShardError(f"{tar} is gone, but the dataset lists it. {_make_again(record)}")
    size, recorded = num_bytes(tar), DoneRecord.from_json(record.read_bytes()).tar_bytes
    if size != recorded:
        raise ShardError(
            f"{tar} has {size} bytes, {recorded} were prepared: it has changed. {_make_again(record)}"
        )


def _make_again(record: AnyPath | str) -> str:
    return f"Delete {record} and run the same `cavsync prepare` again: it makes that shard anew."
