"""The check, before any work, that results can be written where they are to go."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cavsync.errors import OutputError, writing_output

# A disk that holds less is full.
PROBE_BYTES = 2**16


def require_writable_folder(folder: Path, way_out: str = "") -> None:
    """Raises OutputError where no file can be written in `folder`; `way_out` names the option that gives another.

    Writes a file for it and removes it, with the folders that were made for it.
    """
    missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    with writing_output(folder, way_out=way_out):
        there = next((one for one in (folder, *folder.parents) if os.path.lexists(one)), None)
        if there is not None and not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(PROBE_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
        finally:
            # Another process may have put something there, or removed it.
            for made in missing:
                with suppress(OSError):
                    made.rmdir()


def require_writable_file(path: Path, way_out: str = "") -> None:
    """Raises OutputError where `path` cannot become a file: it is a folder or a device, or its folder takes none."""
    if path.is_dir():
        raise OutputError(
            f"{path} is a folder; name a file to write, such as {path / 'results'}{path.suffix}."
        )
    if path.exists() and not path.is_file():
        raise OutputError(
            f"{path} is no file that can be replaced; name another one{way_out and f': {way_out}'}."
        )
    require_writable_folder(path.parent, way_out)
