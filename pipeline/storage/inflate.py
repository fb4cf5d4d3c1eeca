"""Unpacks a gzip file from a seek point on: a place between two deflate blocks, with the 32 KiB before it."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# What is read of the packed file at a time: a thousand times as much may come of it.
READ_BYTES = 2**16
RAW_DEFLATE, GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS | 16
# After a stream come its checksum and length, then perhaps another stream, which begins like this.
FOOTER_BYTES, MAGIC = 8, b"\x1f\x8b\x08"


# Deflate blocks without content, bit by bit (RFC 1951): one with the fixed codes, of 10 bits, and one with codes of its own, of 93. Of
# these two any number of bits can be made, modulo 8.
EMPTY_FIXED = "010" + "0000000"  # not the last; fixed codes; end of block
EMPTY_DYNAMIC = "".join(
    (
        "001",  # not the last; own codes
        *("00000", "00000", "1111"),  # for 257 literals, 1 distance and 19 lengths
        # In the order of the format, lengths 18 (zeros, repeated) and 1 have codes of one bit, 1 and 0.
        *("100" if length in (18, 1) else "000"
          for length in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)),
        *("1" + "1111111", "1" + "1101011"),  # 138 and 118 literals have no code
        *("0", "0"),  # end of block and the distance have codes of one bit
        "0",  # end of block
    )
)  # fmt: skip


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
    for part in _parts(file, bit, window):
        parts.append(part[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    return b"".join(parts)


def _parts(file: Any, bit: int, window: bytes) -> Iterator[bytes]:
    if not bit:
        yield from _streams(file, 0)
        return
    begin, shift = divmod(bit, 8)
    file.seek(begin)
    inflater = zlib.decompressobj(RAW_DEFLATE, zdict=window) if window else zlib.decompressobj(RAW_DEFLATE)
    content, end = _aligned(file.read(READ_BYTES), shift), file.tell()
    while content and not inflater.eof:
        yield inflater.decompress(content)
        content = b"" if inflater.eof else file.read(READ_BYTES)
        end += len(content)
    yield from _streams(file, end - len(inflater.unused_data) + FOOTER_BYTES)


def _aligned(content: bytes, shift: int) -> bytes:
    """The stream from bit `shift` of `content` on, so that its bytes stay bytes: stored blocks begin at one.

    The bits before are made blocks without content.
    """
    if not shift or not content:
        return content
    blocks = (
        EMPTY_FIXED * (shift // 2) if shift % 2 == 0 else EMPTY_DYNAMIC + EMPTY_FIXED * ((shift - 5) // 2 % 4)
    )
    joined = int(blocks[::-1], 2) | (content[0] >> shift << len(blocks))
    return joined.to_bytes(len(blocks) // 8 + 1, "little") + content[1:]


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
