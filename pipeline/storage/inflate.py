"""Unpacks a gzip file from a seek point on: a place between two deflate blocks, with the 32 KiB before it."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

# What is read of the packed file at a time: a thousand times as much may come of it.
READ_BYTES = 2**16
RAW_DEFLATE, GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS | 16
# After a stream come its checksum and length, then perhaps another stream, which begins like this.
FOOTER_BYTES, MAGIC = 8, b"\x1f\x8b\x08"


@dataclass(frozen=True)
class SeekPoint:
    """A place from which the stream can be unpacked."""

    bit: int  # in the packed file; deflate blocks begin at any bit, and 0 is the file's header
    first: int  # the byte of the unpacked stream that comes next
    window: tuple[
        int, int
    ]  # [start, stop) of the packed window in the file of windows; empty where it needs none


def unpacked(file: Any, bit: int, window: bytes, num_bytes: int) -> bytes:
    """`num_bytes` of the stream from the seek point on, fewer where the file ends before.

    `window` are up to 32 KiB before the point. Raises zlib.error where the file is damaged.
    """
    parts, missing = [], num_bytes
    for part in _parts(file, bit, window, num_bytes):
        parts.append(part[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    return b"".join(parts)


def _parts(file: Any, bit: int, window: bytes, most: int) -> Iterator[bytes]:
    if not bit:
        yield from _streams(file, 0)
        return
    begin, shift = divmod(bit, 8)
    file.seek(begin)
    inflater = zlib.decompressobj(RAW_DEFLATE, zdict=window) if window else zlib.decompressobj(RAW_DEFLATE)
    num_given, previous = 0, b""
    while not inflater.eof:
        content = previous + file.read(READ_BYTES)
        # The last byte of what was read has bits of the next one only.
        usable = len(content) - (1 if shift else 0)
        if usable <= 0:
            return
        shifted = _shifted(content, shift)
        previous = content[usable:]
        num_given += usable
        yield inflater.decompress(shifted)
    end = begin + num_given - len(inflater.unused_data)
    yield from _streams(file, _next_header(file, end + FOOTER_BYTES, shift > 0))


def _shifted(content: bytes, shift: int) -> bytes:
    """The bits from `shift` on; one byte less where that is not 0."""
    if not shift:
        return content
    values = np.frombuffer(content, np.uint8)
    joined: np.ndarray = (values[:-1] >> shift) | (values[1:] << (8 - shift)).astype(np.uint8)
    return joined.tobytes()


def _next_header(file: Any, begin: int, is_uncertain: bool) -> int:
    """Where the stream begins that follows; where it is uncertain, at `begin` or the next byte: the last bits of the one
    before lie in the byte that is shifted together of two.
    """
    file.seek(begin)
    return begin + 1 if is_uncertain and file.read(len(MAGIC)) != MAGIC else begin


def _streams(file: Any, begin: int) -> Iterator[bytes]:
    """The streams from there on, one after the other."""
    file.seek(begin)
    content = file.read(READ_BYTES)
    while content.startswith(MAGIC):  # else it is padding
        inflater = zlib.decompressobj(GZIP)
        while content and not inflater.eof:
            yield inflater.decompress(content)
            content = b"" if inflater.eof else file.read(READ_BYTES)
        content = inflater.unused_data
        if len(content) < len(MAGIC):
            content += file.read(READ_BYTES)
