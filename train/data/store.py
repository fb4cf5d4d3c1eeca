"""Random access to the clips of a prepared split: bytes at known offsets, no tar is scanned."""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.reader import Dataset, DatasetError
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.dataset.schema import NUM_MELS
from cavsync.train.data.config import DataConfig
from cavsync.train.data.images import decode_jpeg
from cavsync.train.data.index.checks import ShardError, make_again, require_tars, used_frames
from cavsync.train.data.index.choice import ALL_CLIPS, ClipChoice
from cavsync.train.data.index.mapped_file import index_file
from cavsync.train.data.index.mapped_index import ClipKeys, IndexedClip, MappedIndex
from cavsync.train.data.mixture.datasets import key_prefixes, require_alike
from cavsync.train.data.mixture.joined import JoinedClips
from cavsync.train.data.mixture.shares import Shares

MEL_ROW_BYTES = NUM_MELS * 2  # float16


class ClipStore:
    """The clips of one split, numbered in shard order.

    Holds a mapped index and no open tar, so it may be forked or pickled into workers.
    """

    def __init__(
        self,
        dataset: Dataset,
        role: str,
        *,
        num_frames: int | None = None,
        check_crc: bool = False,
        choice: ClipChoice = ALL_CLIPS,
        prefix: str = "",
    ) -> None:
        """Of each clip `num_frames` frames, spread over it; all of them by default. Its key is shown with `prefix`.

        `num_left_out` counts the clips that `choice` leaves out; DatasetError where none is left.
        """
        _require_local(dataset)
        self.paths, self.used, self.check_crc = dataset.paths, num_frames, check_crc
        index = MappedIndex(index_file(dataset, role))
        require_tars(dataset.paths, index.shards, index.tar_bytes)
        self.num_left_out = 0
        if not choice.is_all:
            clips = dataset.index_table(role, choice.columns)
            is_kept = choice.kept(clips, f"{dataset.paths.root}, split {role!r}")
            self.num_left_out = int(np.sum(~is_kept))
            index = index.only(is_kept)
        self.index, self.keys, self.prefix = index, ClipKeys(index, prefix), prefix
        self.tars = [str(dataset.paths.tar(shard)) for shard in index.shards]
        if num_frames is not None:
            self.frame_counts()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, clip: int) -> "StoredClip":
        return StoredClip(self, self.index[clip])

    @property
    def labels(self) -> list[list[str]]:
        """The ids of each clip's labels."""
        return list(self.index.texts("labels"))

    def identifiers(self) -> Iterator[str]:
        """The keys, without the prefix."""
        return self.index.texts("key")

    def stored_keys(self) -> pa.ChunkedArray:
        """The same as an array."""
        return self.index.key_array()

    def frame_counts(self) -> list[int]:
        """The numbers of used frames that clips have, ascending; DatasetError where fewer are stored."""
        return sorted({len(used_frames(stored, self.used)) for stored in self.index.frame_counts()})


def trained_clips(config: DataConfig, dataset: int = 0) -> ClipChoice:
    """The clips that `config` trains on of a split of its dataset of this number."""
    return ClipChoice(max_gap_s=config.max_gap_s, keep=config.keep, scores=config.scores_of(dataset))


def open_clips(
    config: DataConfig, datasets: Sequence[Dataset], *, for_training: bool = False
) -> "ClipStore | JoinedClips[StoredClip]":
    """The clips of the split that `config` names, of all `datasets`, and of each the frames that it uses.

    What `config` chooses clips by holds `for_training` only; validation and evaluation take all clips. Raises
    DatasetError where the datasets were prepared differently.
    """
    require_alike(datasets, config.num_frames)
    prefixes = key_prefixes([str(dataset.paths.root) for dataset in datasets])
    stores = [
        ClipStore(
            dataset,
            config.split,
            num_frames=config.num_frames,
            check_crc=config.check_crc,
            choice=trained_clips(config, number) if for_training else ALL_CLIPS,
            prefix=prefix,
        )
        for number, (dataset, prefix) in enumerate(zip(datasets, prefixes, strict=True))
    ]
    return stores[0] if len(stores) == 1 else JoinedClips(stores)


def shares_of(clips: "ClipStore | JoinedClips[StoredClip]", config: DataConfig) -> Shares:
    """How much of an epoch each of the datasets of `clips` gives."""
    stores = clips.stores if isinstance(clips, JoinedClips) else [clips]
    return Shares.of([len(store) for store in stores], config.weights, config.paths)


@dataclass(frozen=True)
class StoredClip:
    """One clip of a store. Every method that reads raises ShardError where the tar is not what the index promises."""

    store: ClipStore
    row: IndexedClip

    @property
    def key(self) -> str:
        return self.store.prefix + self.row.key

    @property
    def num_frames(self) -> int:
        return len(self._used)

    def frame_pts_s(self) -> np.ndarray:
        """Presentation times of the frames, float64 (frames,), seconds from the clip's start."""
        pts_s: np.ndarray = self.row.of_frames("frame_pts_s")[self._used]
        return pts_s

    def window_starts(self, window_rows: int, alignment: Alignment) -> np.ndarray:
        """First mel row of each frame's audio segment of `window_rows` rows, int (frames,)."""
        pts_s, num_rows = self.row.of_frames("frame_pts_s"), self.row.number("num_mel_rows")
        # A frame's window does not depend on which others are used.
        starts: np.ndarray = window_starts(pts_s, num_rows, window_rows, alignment)[self._used]
        return starts

    def frame(self, frame: int) -> torch.Tensor:
        """The frame as stored, uint8 (height, width, 3)."""
        return self._decoded(self._used[[frame]])[0]

    def frames(self) -> list[torch.Tensor]:
        """All frames in order of time, each uint8 (height, width, 3)."""
        return self._decoded(self._used)

    def mel_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of the log-mel, float16 (rows, 128); fewer where the clip ends before `stop`."""
        rows = self.row.number("num_mel_rows")
        start, stop = min(start, rows), min(stop, rows)
        # What precedes the numbers in a .npy file is its header.
        header = self.row.number("mel_size") - rows * MEL_ROW_BYTES
        offset = self.row.number("mel_offset") + header + start * MEL_ROW_BYTES
        (content,) = self._read([(offset, (stop - start) * MEL_ROW_BYTES)])
        return np.frombuffer(content, np.float16).reshape(-1, NUM_MELS)

    def mel(self) -> np.ndarray:
        """The whole log-mel, float16 (rows, 128)."""
        return self.mel_rows(0, self.row.number("num_mel_rows"))

    def mel_of(self, frame: int, rows: int, alignment: Alignment) -> np.ndarray:
        """The audio segment of the frame: float16, at most `rows` of 128."""
        start = int(self.window_starts(rows, alignment)[frame])
        return self.mel_rows(start, start + rows)

    @property
    def _used(self) -> np.ndarray:
        """Which of the stored frames are used."""
        return used_frames(self.row.num_stored_frames, self.store.used)

    def _decoded(self, numbers: np.ndarray) -> list[torch.Tensor]:
        offsets, sizes = (
            self.row.of_frames(name)[numbers].tolist() for name in ("frame_offset", "frame_size")
        )
        contents = self._read(list(zip(offsets, sizes, strict=True)))
        try:
            return [decode_jpeg(content) for content in contents]
        except RuntimeError as error:
            raise self._changed(f"a frame of {self.key} is no JPEG ({error})") from error

    def _read(self, spans: Sequence[tuple[int, int]]) -> list[bytearray]:
        """The bytes at each (offset, size) of the clip's tar."""
        try:
            file = os.open(self.store.tars[self.row.number("shard")], os.O_RDONLY)
        except FileNotFoundError as error:
            raise self._changed("it is gone") from error
        try:
            if self.store.check_crc:
                self._compare_crc(file)
            contents = [bytearray(size) for _, size in spans]
            num_read = [
                os.preadv(file, [content], offset)
                for content, (offset, _) in zip(contents, spans, strict=True)
            ]
        finally:
            os.close(file)
        if any(count != size for count, (_, size) in zip(num_read, spans, strict=True)):
            raise self._changed(f"it ends before {self.key} does")
        return contents

    def _compare_crc(self, file: int) -> None:
        crc = 0
        for offset, size in self._members():
            crc = zlib.crc32(os.pread(file, int(size), int(offset)), crc)
        if crc != self.row.number("crc32"):
            raise self._changed(f"the checksum of {self.key} is {crc}, not that of the index")

    def _members(self) -> Iterable[tuple[int, int]]:
        """(offset, size) of all members in the tar, in their order."""
        row = self.row
        yield from zip(row.of_frames("frame_offset"), row.of_frames("frame_size"), strict=True)
        parts = ("json", "mel", "audio")  # an audio file that is not there has no bytes
        yield from ((row.number(f"{part}_offset"), row.number(f"{part}_size")) for part in parts)

    def _changed(self, what: str) -> ShardError:
        shard = self.row.number("shard")
        way_out = make_again(self.store.paths.done(self.store.index.shards[shard]))
        return ShardError(f"{self.store.tars[shard]} is not what was prepared: {what}. {way_out}")


def _require_local(dataset: Dataset) -> None:
    root = dataset.paths.root
    if not isinstance(root, Path):
        raise DatasetError(
            f"{root} is a URL, from which clips can only be trained on as a stream: --set data.source=stream. For "
            "anything else copy the dataset to a disk."
        )
