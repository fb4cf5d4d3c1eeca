"""A gzip file as its unpacked stream, read forwards with jumps, and the seek points that are found on the way."""

import io
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cavsync.pipeline.storage.inflate import InflateError, SeekPoint, unpacked_parts

# Bytes of the unpacked stream between two seek points; half of it is unpacked in vain for a member, on average.
SPACING_BYTES = 4 * 2**20
READ_BYTES = 2**20
# What is unpacked up to damage is kept in memory up to here, then in a temporary file without a name.
MOST_IN_MEMORY_BYTES = 64 * 2**20
# The layout of an index of indexed_gzip: magic, version, flags, lengths, spacing, length of a window, number of points;
# then for each point its place in the packed file and in the stream, its bits before that place, and whether it has a window.
_HEADER, _POINT = struct.Struct("<5sBBQQIII"), struct.Struct("<QQBB")


class UnpackedStream:
    """The stream that a gzip file unpacks to; a damaged file's ends where no more can be unpacked.

    indexed_gzip unpacks up to the seek point after a place before it gives a byte of that place, and fails where damage comes
    first. The bytes from the last seek point up to the damage are unpacked by zlib then. As a tar is listed, no byte is asked
    for that lies before the beginning of an earlier read.
    """

    def __init__(self, packed: Any, windows: IO[bytes]) -> None:
        """The packed windows of the seek points are written to `windows`, a file that can be read."""
        import indexed_gzip

        packed.seek(0)
        self.damage: str | None = None  # a sentence without the file's name
        self._packed, self._windows = packed, windows
        self._indexed = indexed_gzip.IndexedGzipFile(
            fileobj=packed,
            spacing=SPACING_BYTES,
            readbuf_size=READ_BYTES,
            buffer_size=READ_BYTES,
            skip_crc_check=True,  # it compares checksums only of what is read without a jump
        )
        self._position = self._last_read = 0
        self._rest: IO[bytes] | None = None  # from byte `_rest_first` of the stream on, after a failure
        self._rest_first = 0
        self._points: list[SeekPoint] | None = None

    def close(self) -> None:
        if self._rest:
            self._rest.close()

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, num_bytes: int) -> bytes:
        """Fewer where the stream ends."""
        content = self._read_rest(num_bytes) if self._rest else self._read_indexed(num_bytes)
        self._last_read = self._position
        self._position += len(content)
        return content

    def points(self) -> list[SeekPoint]:
        """All seek points; unpacks the rest of the stream for them."""
        while self.read(READ_BYTES):
            pass
        return self._found_points()

    def _read_indexed(self, num_bytes: int) -> bytes:
        try:
            self._indexed.seek(self._position)
            content: bytes = self._indexed.read(num_bytes)
        except (OSError, EOFError, ValueError):
            self._unpack_rest()
            return self._read_rest(num_bytes)
        return content

    def _read_rest(self, num_bytes: int) -> bytes:
        assert self._rest is not None
        self._rest.seek(self._position - self._rest_first)
        return self._rest.read(num_bytes)

    def _unpack_rest(self) -> None:
        """Unpack from the last seek point before the last read up to the damage."""
        point = [point for point in self._found_points() if point.first <= self._last_read][-1]
        start, stop = point.window
        self._windows.seek(start)
        window = zlib.decompress(self._windows.read(stop - start)) if stop > start else b""
        self._rest, self._rest_first = tempfile.SpooledTemporaryFile(MOST_IN_MEMORY_BYTES), point.first  # noqa: SIM115
        try:
            for part in unpacked_parts(self._packed, point.bit, window):
                self._rest.write(part)
        except InflateError as error:
            end = point.first + self._rest.tell()
            self.damage = f"it cannot be unpacked after byte {end:,} of its content, {error.byte:,} of the file ({error})"

    def _found_points(self) -> list[SeekPoint]:
        """Those found by now, or when the file turned out to be damaged; their windows are written once."""
        if self._points is None:
            with tempfile.TemporaryDirectory(prefix="cavsync-archives-") as folder:
                path = Path(folder) / "index"
                self._indexed.export_index(str(path))
                # A short file has no seek point but its beginning.
                self._points = list(_exported_points(path, self._windows)) or [SeekPoint(0, 0, (0, 0))]
        return self._points


def _exported_points(path: Path, windows: IO[bytes]) -> Iterator[SeekPoint]:
    """The seek points of an index of indexed_gzip; writes their windows."""
    with path.open("rb") as exported:
        *_, num_window_bytes, num_points = _HEADER.unpack(exported.read(_HEADER.size))
        points = [_POINT.unpack(exported.read(_POINT.size)) for _ in range(num_points)]
        end = windows.seek(0, io.SEEK_END)
        for byte, first, bits_before, has_window in points:
            start = end
            if has_window:
                end += windows.write(zlib.compress(exported.read(num_window_bytes), 1))
            yield SeekPoint(byte * 8 - bits_before, first, (start, end))
        windows.flush()
