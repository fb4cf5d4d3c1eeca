"""Reads a shard's tar from front to back."""

from collections.abc import Iterator
from typing import BinaryIO

from cavsync.pipeline.dataset.writer import BLOCK
from cavsync.pipeline.inspection.tar import TarDamageError, parse_header

# Asked for at once: at a URL each request for bytes takes its time.
READ_BYTES = 2**18


def read_members(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Name and content of every member, in order. Raises TarDamageError at the first one that is damaged."""
    source = _Buffered(stream)
    while any(header := source.read(BLOCK)):
        try:
            name, size = parse_header(header)
        except ValueError as error:
            raise TarDamageError(f"a header in it is damaged: {error}") from error
        content = source.read(-(-size // BLOCK) * BLOCK)
        if len(content) < size:
            raise TarDamageError(f"it ends inside {name}")
        yield name, content[:size]


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
