"""Lists the members of a packed tar, and the places from which it can be unpacked, in a process of its own.

    python -m cavsync.pipeline.archives.gzip_members ARCHIVE FILE_DESCRIPTOR

writes the packed windows of the seek points to the file descriptor, and a pickled `ArchiveContent`, or error, to stdout. A damaged file
may kill that process, and does not harm the one that prepares.
"""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import closing
from typing import IO

from cavsync.errors import CavsyncError
from cavsync.pipeline.archives.content import ArchiveContent, MemberCollector
from cavsync.pipeline.archives.tar_members import NoTarError, read_tar
from cavsync.pipeline.archives.unpacked_stream import UnpackedStream
from cavsync.pipeline.storage.path import AnyPath, as_path, num_bytes

# -P: not a module of the folder that the user happens to be in.
READER = ("-P", "-m", "cavsync.pipeline.archives.gzip_members")


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
    collector = MemberCollector()
    with archive.open("rb") as packed:
        size = packed.seek(0, os.SEEK_END)
        with closing(UnpackedStream(packed, windows)) as stream:
            try:
                damage = read_tar(stream, "gzip", collector)
                points = stream.points()
            except NoTarError:
                damage, points = "it holds no tar", []
        failure = getattr(packed, "failure", None)
        if failure is not None:
            raise failure
    return ArchiveContent(
        size, collector.members(), dict(collector.left_out), stream.damage or damage, points
    )


def main() -> None:
    archive, descriptor = sys.argv[1:]
    answer: ArchiveContent | OSError
    with os.fdopen(int(descriptor), "r+b") as windows:
        try:
            answer = list_packed_tar(as_path(archive), windows)
        except OSError as error:  # of a store or a disk
            answer = error
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
