"""Unpacks a gzip file from a seek point on: a place between two deflate blocks, with the 32 KiB before it."""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

# What is read of the packed file at a time: a thousand times as much may come of it.
READ_BYTES = 2**16
RAW_DEFLATE = -zlib.MAX_WBITS
# A stream begins like this, with flags after it, and ends with its checksum and length. Then another stream may come (RFC 1952).
MAGIC, FIXED_HEADER_BYTES, FOOTER_BYTES = b"\x1f\x8b\x08", 10, 8
HAS_HEADER_CRC, HAS_EXTRA, HAS_NAME, HAS_COMMENT, RESERVED = 0x02, 0x04, 0x08, 0x10, 0xE0
# A header is read at once; its extra field has up to 64 KiB.
MOST_HEADER_BYTES = 2**17


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


class InflateError(zlib.error):
    """A gzip file cannot be unpacked after `byte` of it: the damage is there, or shortly before."""

    def __init__(self, reason: str, byte: int) -> None:
        super().__init__(reason)
        self.byte = byte


def unpacked(file: Any, bit: int, window: bytes, num_bytes: int) -> bytes:
    """`num_bytes` of the stream from the seek point on, fewer where the file ends before.

    `window` are up to 32 KiB before the point. Raises InflateError where the file is damaged before they are complete.
    """
    parts, missing = [], num_bytes
    for part in unpacked_parts(file, bit, window):
        parts.append(part[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    return b"".join(parts)


def unpacked_parts(file: Any, bit: int, window: bytes) -> Iterator[bytes]:
    """What follows the seek point, to the end of the file or up to the damage. Raises InflateError there.

    Checksums are not compared: a seek point leaves out the bytes before it.
    """
    end = 0
    if bit:
        begin, shift = divmod(bit, 8)
        end = yield from _blocks(file, begin, shift, window)
    while (start := _blocks_start(file, end)) is not None:
        end = yield from _blocks(file, start, 0, b"")


def _blocks(file: Any, begin: int, shift: int, window: bytes) -> Generator[bytes, None, int]:
    """What the deflate blocks of a stream unpack to, from bit `shift` of byte `begin` on; returns where the stream ends."""
    file.seek(begin)
    inflater = zlib.decompressobj(RAW_DEFLATE, zdict=window) if window else zlib.decompressobj(RAW_DEFLATE)
    content = _aligned(file.read(READ_BYTES), shift)
    end: int = file.tell()
    while content and not inflater.eof:
        before = inflater.copy()
        try:
            yield inflater.decompress(content)
        except zlib.error:
            yield from _up_to_damage(before, content, end)
        content = b"" if inflater.eof else file.read(READ_BYTES)
        end += len(content)
    return end - len(inflater.unused_data) + FOOTER_BYTES


def _up_to_damage(inflater: Any, content: bytes, end: int) -> Iterator[bytes]:
    """What the bytes before the damage in `content`, which ends at `end`, unpack to. Raises InflateError there."""
    for at in range(len(content)):
        try:
            yield inflater.decompress(content[at : at + 1])
        except zlib.error as error:
            raise InflateError(str(error), end - len(content) + at) from error


def _blocks_start(file: Any, begin: int) -> int | None:
    """Where the blocks of the stream whose header is at `begin` start; None at the end of the file, or in its padding."""
    file.seek(begin)
    header: bytes = file.read(MOST_HEADER_BYTES)
    if len(header) < FIXED_HEADER_BYTES or not header.strip(b"\0"):
        return None
    flags, at = header[len(MAGIC)], FIXED_HEADER_BYTES
    if not header.startswith(MAGIC) or flags & RESERVED:
        raise InflateError("no header of a gzip stream", begin)
    if flags & HAS_EXTRA:
        at += 2 + int.from_bytes(header[at : at + 2], "little")
    for _ in range(bool(flags & HAS_NAME) + bool(flags & HAS_COMMENT)):  # each ends with a zero
        at = (header.find(b"\0", at) + 1) or len(header)
    return begin + at + (2 if flags & HAS_HEADER_CRC else 0)


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
