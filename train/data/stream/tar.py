"""Reads a shard's tar from front to back.

`tarfile` takes three quarters of a stream's time: it makes an object of every member and looks for the extensions of all
formats. A shard is USTAR with files only, as ShardWriter writes it.
"""

from collections.abc import Iterator
from typing import BinaryIO

from cavsync.pipeline.dataset.writer import BLOCK

# Asked for at once: at a URL each request for bytes takes its time.
READ_BYTES = 2**18
# Fields of a header: [start, stop).
NAME, SIZE, CHECKSUM, TYPE, PREFIX = (0, 100), (124, 136), (148, 156), 156, (345, 500)
FILE_TYPES = b"0\0"


class TarError(Exception):
    """The tar is damaged, or was not written by cavsync."""


def read_members(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Name and content of every member, in order. Raises TarError at the first one that is damaged."""
    source = _Buffered(stream)
    while any(header := source.read(BLOCK)):
        name, size = _parse(header)
        content = source.read(-(-size // BLOCK) * BLOCK)
        if len(content) < size:
            raise TarError(f"it ends inside {name}")
        yield name, content[:size]


def _parse(header: bytes) -> tuple[str, int]:
    """Name of a member, and bytes of its content."""
    try:
        # The checksum counts its own field as spaces.
        checksum = sum(header) - sum(header[slice(*CHECKSUM)]) + 8 * ord(" ")
        if len(header) < BLOCK or checksum != _number(header, CHECKSUM) or header[TYPE] not in FILE_TYPES:
            raise TarError("a header in it is damaged, or none of a file")
        name, prefix = (_text(header, field).decode() for field in (NAME, PREFIX))
        return f"{prefix}/{name}" if prefix else name, _number(header, SIZE)
    except ValueError as error:
        raise TarError(f"a header in it is damaged: {error}") from error


def _number(header: bytes, field: tuple[int, int]) -> int:
    return int(_text(header, field), 8)


def _text(header: bytes, field: tuple[int, int]) -> bytes:
    return header[slice(*field)].partition(b"\0")[0]


class _Buffered:
    """A stream that is read in large pieces."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._held, self._at = stream, b"", 0

    def read(self, num_bytes: int) -> bytes:
        """The next bytes; fewer only where the stream ends."""
        while len(self._held) - self._at < num_bytes and (more := self._stream.read(READ_BYTES)):
            self._held, self._at = self._held[self._at :] + more, 0
        content = self._held[self._at : self._at + num_bytes]
        self._at += num_bytes
        return content
