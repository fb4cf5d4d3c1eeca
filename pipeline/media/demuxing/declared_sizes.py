"""Finds where the files begin that were joined to one, in the formats that declare their own length: Matroska and AVI."""

from cavsync.pipeline.storage.path import AnyPath, read_range

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
HEADER_BYTES = 64
# More joined files than this are not looked for.
MOST_PARTS = 200


def matroska_beginnings(source: AnyPath, num_bytes: int) -> list[int]:
    """The first byte of each joined file; a file whose length is not declared is the last one."""
    found, begin = [0], 0
    while len(found) < MOST_PARTS:
        end = _matroska_end(read_range(source, begin, begin + HEADER_BYTES), begin)
        if end is None or end >= num_bytes or read_range(source, end, end + len(EBML)) != EBML:
            break
        begin = end
        found.append(begin)
    return found


def _matroska_end(head: bytes, begin: int) -> int | None:
    """Where the file that begins so ends: a header of EBML, then one segment."""
    if not head.startswith(EBML):
        return None
    size = _number(head, len(EBML))
    if size is None or head[size[1] + size[0] :][:4] != SEGMENT:
        return None
    segment = _number(head, size[1] + size[0] + len(SEGMENT))
    return None if segment is None else begin + segment[1] + segment[0]


def _number(head: bytes, at: int) -> tuple[int, int] | None:
    """A number of EBML and where it ends; None where it says that the size is unknown, or is not there whole."""
    if at >= len(head) or not head[at]:
        return None
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    is_unknown = value == (1 << 7 * length) - 1
    return None if is_unknown or at + length > len(head) else (value, at + length)


def avi_beginnings(source: AnyPath, num_bytes: int) -> list[int]:
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
