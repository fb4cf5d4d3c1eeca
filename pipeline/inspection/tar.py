"""Reads the members of a shard's tar from its headers.

`tarfile` takes three times as long for a header: it makes an object of every member and looks for the extensions of all
formats. A shard is USTAR with files only, as ShardWriter writes it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cavsync.pipeline.dataset.writer import BLOCK

# Two blocks of zeros end a tar; without them it was cut, perhaps between two members.
END = bytes(2 * BLOCK)
# Fields of a header: [start, stop).
NAME, SIZE, CHECKSUM, TYPE, PREFIX = (0, 100), (124, 136), (148, 156), 156, (345, 500)
FILE_TYPES = b"0\0"


class TarDamageError(Exception):
    """The tar is damaged; the message names the position and the reason."""


class Member(NamedTuple):
    """One file of a tar."""

    name: str
    offset: int  # of the first content byte
    size: int


def read_members(path: Path) -> Iterator[Member]:
    """Every member in order. Raises TarDamageError at the first header that is damaged, or at a missing end."""
    num_bytes = path.stat().st_size
    with path.open("rb") as tar:
        position = 0
        while (member := _read_member(tar, position)) is not None:
            position = member.offset + -(-member.size // BLOCK) * BLOCK
            if position > num_bytes:
                raise TarDamageError(f"it ends at byte {num_bytes:,}, inside {member.name}")
            yield member
        _require_end(tar, position)


def _read_member(tar: BinaryIO, position: int) -> Member | None:
    """The member whose header is at `position`; None where the end marker or the file's end is."""
    tar.seek(position)
    header = tar.read(BLOCK)
    if not header.strip(b"\0"):
        return None
    try:
        name, size = parse_header(header)
    except ValueError as error:
        raise TarDamageError(f"the header at byte {position:,} is damaged ({error})") from error
    return Member(name, position + BLOCK, size)


def parse_header(header: bytes) -> tuple[str, int]:
    """Name of a member, and bytes of its content. Raises ValueError where the block is no header of a file."""
    if len(header) < BLOCK:
        raise ValueError("it is cut")
    # The checksum counts its own field as spaces.
    checksum = sum(header) - sum(header[slice(*CHECKSUM)]) + 8 * ord(" ")
    if checksum != _number(header, CHECKSUM):
        raise ValueError("bad checksum")
    if header[TYPE] not in FILE_TYPES:
        raise ValueError("it is of no file")
    name, prefix = (_text(header, field).decode() for field in (NAME, PREFIX))
    return f"{prefix}/{name}" if prefix else name, _number(header, SIZE)


def _number(header: bytes, field: tuple[int, int]) -> int:
    return int(_text(header, field), 8)


def _text(header: bytes, field: tuple[int, int]) -> bytes:
    return header[slice(*field)].partition(b"\0")[0]


def _require_end(tar: BinaryIO, position: int) -> None:
    tar.seek(position)
    if tar.read(len(END)) != END:
        raise TarDamageError(
            f"its end marker is missing at byte {position:,}: it was cut there, or written over"
        )
    while block := tar.read(2**20):
        if block.strip(b"\0"):
            raise TarDamageError(f"there are bytes after its end marker at byte {position:,}")
