"""Finds where the files begin that were joined to one, in the formats that declare their own length: Matroska and AVI.

Recorders in browsers write Matroska without its length; there the next file's header is looked for.
"""

from cavsync.pipeline.storage.path import MediaPath, read_range

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
HEADER_BYTES = 64
SEARCHED_BYTES = 4 * 2**20  # at a time
# More joined files than this are not looked for.
MOST_PARTS = 200


def matroska_beginnings(source: MediaPath, num_bytes: int) -> list[int]:
    """The first byte of each joined file."""
    found = [0]
    while len(found) < MOST_PARTS:
        end = _matroska_end(source, found[-1], num_bytes)
        if end >= num_bytes or read_range(source, end, end + len(EBML)) != EBML:
            break
        found.append(end)
    return found


def _matroska_end(source: MediaPath, begin: int, num_bytes: int) -> int:
    """Where the file that begins there ends: a header of EBML, then one segment."""
    head = read_range(source, begin, begin + HEADER_BYTES)
    at = _segment_size_at(head)
    if at is None:
        return num_bytes
    size = _number(head, at)
    return _next_header(source, begin + at, num_bytes) if size is None else begin + size[1] + size[0]


def _segment_size_at(head: bytes) -> int | None:
    """Where the size of the segment stands; None unless a file begins so."""
    size = _number(head, len(EBML)) if head.startswith(EBML) else None
    at = 0 if size is None else size[1] + size[0]
    return at + len(SEGMENT) if at and head[at:].startswith(SEGMENT) else None


def _next_header(source: MediaPath, begin: int, num_bytes: int) -> int:
    """Where the next file begins, or `num_bytes`."""
    for first in range(begin, num_bytes, SEARCHED_BYTES):
        content = read_range(source, first, min(num_bytes, first + SEARCHED_BYTES + HEADER_BYTES))
        at = content.find(EBML)
        while 0 <= at < SEARCHED_BYTES:
            if _segment_size_at(content[at : at + HEADER_BYTES]) is not None:
                return first + at
            at = content.find(EBML, at + 1)
    return num_bytes


def _number(head: bytes, at: int) -> tuple[int, int] | None:
    """A number of EBML and where it ends; None where it says that the size is unknown, or is not there whole."""
    if at >= len(head) or not head[at]:
        return None
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    is_unknown = value == (1 << 7 * length) - 1
    return None if is_unknown or at + length > len(head) else (value, at + length)


def avi_beginnings(source: MediaPath, num_bytes: int) -> list[int]:
    """The first byte of each joined file. A large AVI has further chunks (AVIX), which belong to it."""
    found, at = [0], 0
    for _ in range(MOST_PARTS):
        head = read_range(source, at, at + 12)
        if head[:4] != b"RIFF" or at >= num_bytes:
            break
        if at and head[8:] == b"AVI ":
            found.append(at)
        size = int.from_bytes(head[4:8], "little")
        at += 8 + size + size % 2
    return found
