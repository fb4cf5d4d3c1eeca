"""A clip of a stream, and the clips of a shard read from its front."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import torch

from cavsync.pipeline.dataset.choices import Alignment
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.dataset.schema import NUM_MELS
from cavsync.pipeline.storage.path import as_path, read_through
from cavsync.train.data.images import decode_jpeg
from cavsync.train.data.index.checks import ShardError, used_frames
from cavsync.train.data.stream.shards import Shard, refused
from cavsync.train.data.stream.tar import read_members


@dataclass(frozen=True)
class StreamedClip:
    """One clip as webdataset groups it: the bytes of its members by what follows the key in their names."""

    members: Mapping[str, Any]
    url: str
    used: int | None = None
    """How many of its frames are used; None is all."""
    prefix: str = ""
    """Shown before its key."""

    @property
    def key(self) -> str:
        return self.prefix + str(self.members["__key__"])

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

    @cached_property
    def _mel(self) -> np.ndarray:
        """float16 (rows, 128), which copies nothing."""
        try:
            content = self.members["mel.npy"]
            # What precedes the numbers in a .npy file is its header, whose length stands behind the magic and the version.
            start = 10 + int.from_bytes(content[8:10], "little")
            return np.frombuffer(content, np.float16, offset=start).reshape(-1, NUM_MELS)
        except (KeyError, ValueError) as error:
            raise self._incomplete("the log-mel") from error

    def frame(self, frame: int) -> torch.Tensor:
        """The frame as stored, uint8 (height, width, 3)."""
        number = self._used[frame]
        try:
            return decode_jpeg(bytearray(self.members[f"{number:02d}.jpg"]))
        except (KeyError, RuntimeError) as error:
            raise self._incomplete(f"frame {number}") from error

    def mel_of(self, frame: int, rows: int, alignment: Alignment) -> np.ndarray:
        """The audio segment of the frame: float16, at most `rows` of 128."""
        start = window_starts(self._stored_pts_s, len(self._mel), rows, alignment)[self._used[frame]]
        window: np.ndarray = self._mel[start : start + rows]
        return window

    def _incomplete(self, what: str) -> ShardError:
        return ShardError(
            f"{self.url}: {what} of {self.key} is not there or damaged. Copy the shard and its file in done/ "
            "there again."
        )


def read_clips(shard: Shard, low: int, high: int, num_frames: int | None = None) -> Iterator[StreamedClip]:
    """Clips [low, high) of those of a shard, read from its beginning; ShardError where they are not there."""
    from webdataset.tariterators import group_by_keys  # which those who read from an index can do without

    positions = shard.positions[low:high]
    num_read = 0
    try:
        with read_through(as_path(shard.url)) as stream:
            wanted = set(positions)
            samples = group_by_keys(_files(stream, shard.url))
            for position, members in enumerate(islice(samples, positions[-1] + 1)):
                num_read = position + 1
                if position in wanted:
                    yield StreamedClip(members, shard.url, num_frames, shard.prefix)
    except Exception as error:  # each protocol raises errors of its own library
        raise ShardError(f"{refused(shard.url, error)} --resume continues the run.") from error
    if num_read <= positions[-1]:
        raise ShardError(
            f"{shard.url} ends after {num_read} clips, {shard.num_stored} were prepared: it has changed. Copy the "
            "shard and its file in done/ there again."
        )


def _files(stream: BinaryIO, url: str) -> Iterator[dict[str, Any]]:
    """The members of a tar as webdataset groups them into samples."""
    for name, content in read_members(stream):
        yield {"fname": name, "data": content, "__url__": url}
