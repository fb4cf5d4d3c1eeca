"""Proves that damage to a packed tar costs the members that touch it or lie after it, and no other."""

import gzip
import random
from pathlib import Path

import pytest
from support.archives.packing import BAD_BLOCK, packed_in_parts, tar_bytes

from cavsync.pipeline.archives import unpacked_stream
from cavsync.pipeline.archives.content import ArchiveContent
from cavsync.pipeline.archives.gzip_members import list_packed_tar
from cavsync.pipeline.storage.member_file import MemberError
from cavsync.pipeline.storage.member_path import MemberPath

GENERATOR = random.Random(5)
# Some end shortly before the damage, between two seek points; b.mp4 goes over several.
SIZES = {"a.mp4": 700, "b.mp4": 150_000, "c.mp4": 3_000, "d.mp4": 600, "e.mp4": 20_000, "f.mp4": 900}
MEMBERS = {name: GENERATOR.randbytes(size // 2) + bytes(size // 2) for name, size in SIZES.items()}
TAR = tar_bytes(MEMBERS)
INSIDE_E = TAR.index(MEMBERS["e.mp4"]) + 5_000


@pytest.fixture(autouse=True)
def near_seek_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked_stream, "SPACING_BYTES", 50_000)
    monkeypatch.setattr(unpacked_stream, "READ_BYTES", 10_000)


def listed(packed: bytes, folder: Path) -> ArchiveContent:
    (folder / "a.tar.gz").write_bytes(packed)
    with (folder / "windows").open("w+b") as windows:
        return list_packed_tar(folder / "a.tar.gz", windows)


def read(content: ArchiveContent, name: str, folder: Path) -> bytes:
    place = content.place(content.by_name[name], folder / "windows")
    path = MemberPath(folder / "a.tar.gz", name, place, content.num_bytes)
    return path.read_range(0, path.num_bytes())


def require_read(content: ArchiveContent, names: str, folder: Path) -> None:
    for name in names:
        assert read(content, f"{name}.mp4", folder) == MEMBERS[f"{name}.mp4"]


def test_members_before_damaged_blocks_are_read(tmp_path: Path) -> None:
    """The message names the byte at which unpacking fails, in the content and in the file."""
    first, second = packed_in_parts(TAR, INSIDE_E)
    content = listed(first + BAD_BLOCK + second[1:], tmp_path)
    assert len(content.points) > 2
    assert content.damage == (
        f"it cannot be unpacked after byte {INSIDE_E:,} of its content, {len(first):,} of the file "
        "(Error -3 while decompressing data: invalid block type)"
    )
    assert sorted(content.by_name) == [f"{name}.mp4" for name in "abcde"]
    require_read(content, "abcd", tmp_path)
    with pytest.raises(MemberError, match=rf"a\.tar\.gz is damaged: .* after byte {len(first):,} "):
        read(content, "e.mp4", tmp_path)


def test_members_before_a_damaged_second_stream_are_read(tmp_path: Path) -> None:
    """As of gzip files that were joined: its header, after which nothing is unpacked, or its first block is damaged."""
    first, second = gzip.compress(TAR[:INSIDE_E], 6), gzip.compress(TAR[INSIDE_E:], 6)
    for damaged, message in (
        (b"\x1e" + second[1:], "it ends inside its member 'e.mp4'; those after it are not there"),
        (
            second[:10] + BAD_BLOCK + second[11:],
            f"it cannot be unpacked after byte {INSIDE_E:,} of its content",
        ),
    ):
        content = listed(first + damaged, tmp_path)
        assert content.damage is not None
        assert content.damage.startswith(message)
        require_read(content, "abcd", tmp_path)
        with pytest.raises(MemberError, match=r"a\.tar\.gz is (damaged|cut off)"):
            read(content, "e.mp4", tmp_path)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_members_of_a_file_with_a_wrong_checksum_are_read(num_streams: int, tmp_path: Path) -> None:
    """The checksum is not compared, neither at the end nor between two streams, whose headers may have a name."""
    with gzip.open(tmp_path / "named", "wb") as file:
        file.write(TAR if num_streams == 1 else TAR[:600])
    first = bytearray((tmp_path / "named").read_bytes())
    first[-8] ^= 1
    rest = b"" if num_streams == 1 else gzip.compress(TAR[600:])
    content = listed(bytes(first) + rest, tmp_path)
    assert content.damage is None
    require_read(content, "abcdef", tmp_path)


@pytest.mark.parametrize("at", [INSIDE_E, TAR.index(MEMBERS["e.mp4"]) - 512])
def test_members_before_a_cut_are_read(at: int, tmp_path: Path) -> None:
    content = listed(packed_in_parts(TAR, at)[0], tmp_path)
    require_read(content, "abcd", tmp_path)
    if at == INSIDE_E:
        assert content.damage == "it ends inside its member 'e.mp4'; those after it are not there"
        with pytest.raises(MemberError, match=r"a\.tar\.gz is cut off: it ends inside this member"):
            read(content, "e.mp4", tmp_path)
    else:
        assert content.damage == f"it ends at byte {at:,} without an end marker, so that it may be cut off"


def test_a_file_that_is_damaged_from_its_beginning_has_no_members(tmp_path: Path) -> None:
    packed = gzip.compress(TAR, 6)
    content = listed(packed[:10] + BAD_BLOCK + packed[11:], tmp_path)
    assert not content.members
    assert content.damage == (
        "it cannot be unpacked after byte 0 of its content, 10 of the file "
        "(Error -3 while decompressing data: invalid block type)"
    )


def test_damaged_windows_of_seek_points_are_named(tmp_path: Path) -> None:
    content = listed(gzip.compress(TAR, 6), tmp_path)
    windows = tmp_path / "windows"
    windows.write_bytes(bytes(windows.stat().st_size))
    with pytest.raises(MemberError, match=r"windows is damaged .*. Delete its folder"):
        read(content, "f.mp4", tmp_path)
