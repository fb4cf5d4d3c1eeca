"""One run at a time in a dataset's folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cavsync.pipeline.errors import CavsyncError


class LockError(CavsyncError):
    """Another run works in the folder; the message says which."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`/.lock while the block runs. Raises LockError while another living run holds it.

    The lock of a process of this host that no longer lives is taken over.
    """
    path = folder / ".lock"
    folder.mkdir(parents=True, exist_ok=True)
    while not _created(path):
        _remove_if_stale(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _created(path: Path) -> bool:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat("T", "seconds"),
    }
    # Written whole before it gets its name, so nobody reads half of it; a link never replaces what is there.
    draft = path.with_name(f".lock.{socket.gethostname()}.{os.getpid()}")
    draft.write_text(json.dumps(holder))
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _remove_if_stale(path: Path) -> None:
    try:
        holder = json.loads(path.read_text())
    except FileNotFoundError:
        return  # released since
    if holder["host"] == socket.gethostname() and not _lives(holder["pid"]):
        path.unlink(missing_ok=True)
        return
    raise LockError(
        f"{path.parent} is being prepared by process {holder['pid']} on {holder['host']} since {holder['since']}. "
        f"Wait for it or stop it; if no such process exists any more, delete {path}."
    )


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's process
    return True
