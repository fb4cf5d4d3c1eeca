"""What is checked before clips are read: that tars are those that were prepared, and which frames are used."""

import os
from collections.abc import Sequence
from functools import cache

import numpy as np

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.pipeline.dataset.sampling import spread
from cavsync.pipeline.storage.path import AnyPath


class ShardError(DatasetError):
    """A shard that is missing or not what its index says; the message names the file."""


def require_tars(paths: DatasetPaths, shards: Sequence[str], tar_bytes: Sequence[int]) -> None:
    """ShardError unless the tars of the shards are there and have the `tar_bytes` prepared; no byte of them is read."""
    for shard, prepared in zip(shards, tar_bytes, strict=True):
        tar = str(paths.tar(shard))
        try:
            found = os.stat(tar).st_size
        except FileNotFoundError as error:
            way_out = make_again(paths.done(shard))
            raise ShardError(f"{tar} is gone, but the dataset lists it. {way_out}") from error
        if found != prepared:
            raise ShardError(
                f"{tar} has {found} bytes, {prepared} were prepared: it has changed. {make_again(paths.done(shard))}"
            )


def make_again(record: AnyPath) -> str:
    """The way out where something of a shard is wrong, from the path of its done-record."""
    return f"Delete {record} and run the same `cavsync prepare` again: it makes that shard anew."


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
