"""Open members of archives: seekable files that read the archive at the member's place."""

import tempfile
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.inflate import InflateError, SeekPoint, unpacked
from cavsync.pipeline.storage.remote_path import RemotePath
from cavsync.pipeline.storage.seekable_file import SeekableFile

# The fixed part of a zip's local header, and where it has the lengths of the name and of the extra field after it.
ZIP_HEADER_BYTES, ZIP_MAGIC, ZIP_LENGTHS = 30, b"PK\x03\x04", slice(26, 30)
# A deflated entry of a zip that is longer than this is unpacked to a temporary file without a name.
MOST_IN_MEMORY_BYTES = 64 * 2**20
# What is read of one at a time: a thousand times as much may come of it.
READ_BYTES = 2**16
# Unpacked blocks of gzip files that this process keeps.
MOST_BLOCKS = 4


class MemberError(CavsyncError, OSError):
    """A member of an archive cannot be read; the message names the archive and the reason."""


class ArchiveChangedError(StoreError):
    """An archive is another one than when its members were listed."""


class _MemberFile(SeekableFile):
    """A seekable file of known length. `failure` keeps the error of a read, which libraries take for the file's end."""

    def __init__(self, file: Any, num_bytes: int) -> None:
        super().__init__(file, num_bytes)
        self._error: OSError | None = None

    @property
    def failure(self) -> OSError | None:
        return self._error or getattr(self._file, "failure", None)

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(0, self._num_bytes - self._position))
        if not count:
            return 0
        try:
            num_read = self._read(memoryview(buffer)[:count])
        except MemberError as error:
            self._error = error
            raise
        self._position += num_read
        return num_read

    def _read(self, buffer: memoryview) -> int:
        """Fill the buffer from the member's byte `_position` on."""
        raise NotImplementedError


class SpanFile(_MemberFile):
    """A member whose bytes lie in the file as they are, from `start` on."""

    def __init__(self, file: Any, archive: str, start: int, num_bytes: int) -> None:
        super().__init__(file, num_bytes)
        self._archive, self._start = archive, start

    def _read(self, buffer: memoryview) -> int:
        self._file.seek(self._start + self._position)
        num_read: int = self._file.readinto(buffer)
        if num_read < len(buffer):
            raise MemberError(f"{self._archive} ends inside this member")
        return num_read


class GzipSpanFile(_MemberFile):
    """A member of a packed tar: the blocks between two seek points are unpacked when they are read."""

    def __init__(
        self,
        file: Any,
        archive: str,
        start: int,
        num_bytes: int,
        points: Sequence[SeekPoint],
        windows: Path | RemotePath,
    ) -> None:
        super().__init__(file, num_bytes)
        self._archive, self._start, self._windows = archive, start, windows
        self._points = points
        self._firsts = [point.first for point in points]
        self._stops = [*self._firsts[1:], start + num_bytes]

    def _read(self, buffer: memoryview) -> int:
        num_read = 0
        while num_read < len(buffer):
            at = self._start + self._position + num_read
            number = bisect_right(self._firsts, at) - 1
            begin = at - self._firsts[number]
            content = self._block(number)[begin : begin + len(buffer) - num_read]
            buffer[num_read : num_read + len(content)] = content
            num_read += len(content)
        return num_read

    def _block(self, number: int) -> bytes:
        point, stop = self._points[number], self._stops[number]
        key = (self._archive, str(self._windows), point, stop)
        if key not in _blocks:
            _blocks[key] = self._unpacked(point, stop - point.first)
            if len(_blocks) > MOST_BLOCKS:
                _blocks.popitem(last=False)
        _blocks.move_to_end(key)
        return _blocks[key]

    def _unpacked(self, point: SeekPoint, num_bytes: int) -> bytes:
        try:
            content = unpacked(self._file, point.bit, self._window(point), num_bytes)
        except InflateError as error:
            raise MemberError(
                f"{self._archive} is damaged: it cannot be unpacked after byte {error.byte:,} ({error})"
            ) from error
        if len(content) < num_bytes:
            raise MemberError(f"{self._archive} is cut off: it ends inside this member")
        return content

    def _window(self, point: SeekPoint) -> bytes:
        start, stop = point.window
        try:
            return zlib.decompress(_bytes_of(self._windows, start, stop)) if stop > start else b""
        except zlib.error as error:
            raise MemberError(
                f"{self._windows} is damaged ({error}). Delete its folder and repeat the command with --retry-failed."
            ) from error


def _bytes_of(path: Path | RemotePath, start: int, stop: int) -> bytes:
    if isinstance(path, RemotePath):
        return path.read_range(start, stop)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


_blocks: OrderedDict[Any, bytes] = OrderedDict()


def zip_content_start(file: Any, header: int, archive: str) -> int:
    """Where the content of a zip's entry begins, by its local header. Raises MemberError where that is damaged."""
    file.seek(header)
    fixed = file.read(ZIP_HEADER_BYTES)
    if fixed[: len(ZIP_MAGIC)] != ZIP_MAGIC or len(fixed) < ZIP_HEADER_BYTES:
        raise MemberError(
            f"{archive} is damaged at byte {header:,}, where the header of this member should be"
        )
    lengths = fixed[ZIP_LENGTHS]
    return (
        header
        + ZIP_HEADER_BYTES
        + int.from_bytes(lengths[:2], "little")
        + int.from_bytes(lengths[2:], "little")
    )


def inflated_entry(file: Any, archive: str, start: int, num_packed: int, num_bytes: int, crc: int) -> Any:
    """An open file without a name with the content of a deflated entry. Raises MemberError where that is damaged."""
    content = tempfile.SpooledTemporaryFile(MOST_IN_MEMORY_BYTES)  # noqa: SIM115
    inflater, found_crc, left = zlib.decompressobj(-zlib.MAX_WBITS), 0, num_packed
    file.seek(start)
    try:
        while left and not inflater.eof:
            packed = file.read(min(READ_BYTES, left))
            if not packed:
                break
            left -= len(packed)
            part = inflater.decompress(packed)
            found_crc = zlib.crc32(part, found_crc)
            content.write(part)
            if content.tell() > num_bytes:
                break
    except zlib.error as error:
        content.close()
        raise MemberError(f"{archive} is damaged inside this member ({error})") from error
    if content.tell() != num_bytes or found_crc != crc:
        content.close()
        raise MemberError(f"{archive} is damaged inside this member: its checksum is another one")
    return content
