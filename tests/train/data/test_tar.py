"""Proves that the members of a shard are read as tarfile reads them, and that damage is named."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.known_shards import frame_jpeg, mel, prepared_row

from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.writer import ShardWriter
from cavsync.pipeline.inspection.tar import TarDamageError
from cavsync.train.data.stream.tar import read_members


def written(folder: Path, key: str) -> bytes:
    """The tar of one clip of three frames; its key lies in a folder, so that long names have a prefix."""
    paths, row = DatasetPaths(folder), replace(prepared_row(key), key=f"folder/{key}")
    with ShardWriter(paths, "train-00000") as writer:
        writer.add(row, [frame_jpeg(0, frame, 32) for frame in range(3)], mel(0))
        writer.finish()
    return paths.tar("train-00000").read_bytes()


@pytest.mark.parametrize("key", ["clip000_00000000", "k" * 90])
def test_members_of_a_tar_are_those_that_tarfile_reads(tmp_path: Path, key: str) -> None:
    content = written(tmp_path, key)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        expected = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
    assert list(read_members(io.BytesIO(content))) == expected
    # A server may hand over less than it was asked for.
    assert list(read_members(Trickle(content))) == expected
    assert len(expected) == 5


class Trickle(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 700))


# Of the first header: name, mode, size, checksum and type.
@pytest.mark.parametrize("at", [0, 100, 130, 150, 156])
def test_a_damaged_header_is_reported(tmp_path: Path, at: int) -> None:
    content = bytearray(written(tmp_path, "clip000_00000000"))
    content[at] ^= 0x15
    with pytest.raises(TarDamageError, match="a header in it is damaged"):
        list(read_members(io.BytesIO(content)))


def test_a_tar_that_was_cut_names_the_member(tmp_path: Path) -> None:
    content = written(tmp_path, "clip000_00000000")
    with pytest.raises(TarDamageError, match=r"it ends inside folder/clip000_00000000\.00\.jpg"):
        list(read_members(io.BytesIO(content[:600])))
    with pytest.raises(TarDamageError, match="a header in it is damaged"):
        list(read_members(io.BytesIO(content[:100])))
