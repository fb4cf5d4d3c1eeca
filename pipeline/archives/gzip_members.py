"""Lists the members of a packed tar, and the places from which it can be unpacked, in a process of its own.

    python -m cavsync.pipeline.archives.gzip_members ARCHIVE FILE_DESCRIPTOR

writes the packed windows of the seek points to the file descriptor, and a pickled `ArchiveContent`, or error, to stdout. A damaged file
may kill that process, and does not harm the one that prepares.
"""

import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cavsync.errors import CavsyncError
from cavsync.pipeline.archives.content import ArchiveContent, MemberCollector
from cavsync.pipeline.archives.tar_members import NoTarError, read_tar
from cavsync.pipeline.storage.inflate import SeekPoint
from cavsync.pipeline.storage.path import AnyPath, as_path, num_bytes

# Bytes of the unpacked stream between two seek points; half of it is unpacked in vain for a member, on average.
SPACING_BYTES = 4 * 2**20
READ_BYTES = 2**20
# The layout of an index of indexed_gzip: magic, version, flags, lengths, spacing, length of a window, number of points;
# then for each point its place in the packed file and in the stream, its bits before that place, and whether it has a window.
_HEADER, _POINT = struct.Struct("<5sBBQQIII"), struct.Struct("<QQBB")
# -P: not a module of the folder that the user happens to be in.
READER = ("-P", "-m", "cavsync.pipeline.archives.gzip_members")
_NO_TAR = "it holds no tar"


def read_gzip(archive: AnyPath, windows: IO[bytes]) -> ArchiveContent:
    """The content of a packed tar; the windows are written to a file on this machine."""
    command = [sys.executable, *READER, str(archive), str(windows.fileno())]
    with subprocess.Popen(
        command, pass_fds=[windows.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reader:
        _readers.add(reader)
        try:
            pickled, log = reader.communicate()
        finally:
            reader.kill()
            _readers.discard(reader)
    size = num_bytes(archive)
    if -reader.returncode in _FROM_OUTSIDE:
        raise ArchiveReaderError(
            f"{archive} was not listed to its end: {signal.Signals(-reader.returncode).name} ended its reader, as where memory "
            "is short. Repeat the command."
        )
    if reader.returncode < 0:
        return ArchiveContent(size, damage=f"its reader died ({signal.Signals(-reader.returncode).name})")
    if reader.returncode:
        raise RuntimeError(f"{archive} cannot be listed:\n{log.decode(errors='replace')}")
    answer: ArchiveContent | OSError = pickle.loads(pickled)
    if isinstance(answer, OSError):
        raise answer
    return answer


class ArchiveReaderError(CavsyncError):
    """What lists a packed tar was killed."""


# Signals that a damaged file does not cause.
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# Of this process, in whichever thread.
_readers: set["subprocess.Popen[bytes]"] = set()


def stop_readers() -> None:
    """Kill what lists packed tars for other threads, which end then."""
    for reader in list(_readers):
        reader.kill()


def list_packed_tar(archive: AnyPath, windows: IO[bytes]) -> ArchiveContent:
    """As `read_gzip`, in this process."""
    import indexed_gzip

    collector = MemberCollector()
    with archive.open("rb") as packed:
        size = packed.seek(0, os.SEEK_END)
        packed.seek(0)
        file = indexed_gzip.IndexedGzipFile(
            fileobj=packed, spacing=SPACING_BYTES, readbuf_size=READ_BYTES, buffer_size=READ_BYTES
        )
        try:
            damage = read_tar(file, "gzip", collector)
            while file.read(READ_BYTES):  # to its end, for all seek points
                pass
        except NoTarError:
            damage = _NO_TAR
        except (OSError, EOFError, ValueError) as error:
            damage = f"it cannot be unpacked after byte {file.tell():,} of its content ({error})"
        failure = getattr(packed, "failure", None)
        if failure is not None:
            raise failure
        # A short file has no seek point but its beginning.
        points = list(_kept_points(file, windows)) or [SeekPoint(0, 0, (0, 0))]
    return ArchiveContent(size, collector.members(), dict(collector.left_out), damage, points)


def _kept_points(file: Any, windows: IO[bytes]) -> Iterator[SeekPoint]:
    """The seek points; writes their windows."""
    with tempfile.TemporaryDirectory(prefix="cavsync-archives-") as folder:
        path = Path(folder) / "index"
        file.export_index(str(path))
        yield from _read_points(path, windows)


def _read_points(path: Path, windows: IO[bytes]) -> Iterator[SeekPoint]:
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


def main() -> None:
    archive, descriptor = sys.argv[1:]
    answer: ArchiveContent | OSError
    with os.fdopen(int(descriptor), "wb") as windows:
        try:
            answer = list_packed_tar(as_path(archive), windows)
        except OSError as error:  # of a store or a disk
            answer = error
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
