"""The lock of a dataset's folder, local or at a URL: one run at a time."""

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.path import AnyPath, release

LOCK_NAME = ".lock"


class LockError(CavsyncError):
    """Another run holds the lock of the folder; the message names it."""


@contextmanager
def run_lock(folder: AnyPath) -> Iterator[None]:
    """Hold `folder`/.lock while the block runs. Raises LockError while another living run holds it.

    A lock whose process on this host has ended is taken over.
    """
    path = folder / LOCK_NAME
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder.require_writable()
    with exclusively(folder):  # two that find a stale lock could remove each other's new one
        _remove_if_stale(path)
        _create(path)
    try:
        yield
    finally:
        release(path)


@contextmanager
def exclusively(folder: AnyPath) -> Iterator[None]:
    """Let one process of this host in at a time; the others wait."""
    descriptor = os.open(folder if isinstance(folder, Path) else tempfile.gettempdir(), os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no flock; the race is small
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(path: AnyPath) -> None:
    holder = {
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat("T", "seconds"),
    }
    with suppress(FileExistsError):  # another host was faster
        if isinstance(path, Path):
            _link(path, json.dumps(holder))
        else:
            path.create(json.dumps(holder).encode())
    # A store without exclusive creation lets two processes write at the same time; the later one holds the lock.
    found = read_holder(path)
    if found != holder:
        raise _lock_error(path, found or {"pid": "?", "host": "another host", "since": "this moment"})


def _link(path: Path, holder: str) -> None:
    """Write the lock whole, then link it to its name; a link never replaces a file."""
    partial = path.with_name(f".lock.{socket.gethostname()}.{os.getpid()}.tmp")
    partial.write_text(holder)
    try:
        os.link(partial, path)
    finally:
        partial.unlink()


def _remove_if_stale(path: AnyPath) -> None:
    """Raises LockError when another living run holds the lock."""
    holder = read_holder(path)
    if holder is None:
        return
    if holder["host"] != socket.gethostname() or is_running(holder):
        raise _lock_error(path, holder)
    path.unlink(missing_ok=True)


def read_holder(path: AnyPath) -> dict[str, Any] | None:
    """The process that holds the lock; None where none does."""
    try:
        holder: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return holder


def _lock_error(path: AnyPath, holder: dict[str, Any]) -> LockError:
    return LockError(
        f"{path.parent} is being prepared by process {holder['pid']} on {holder['host']} since {holder['since']}. "
        f"Wait for it or stop it; if no such process exists any more, delete {path}."
    )


def is_running(holder: dict[str, Any]) -> bool:
    """Whether the holder's process still runs; a process that reused its pid has another start time."""
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's process
    started = _start_of(holder["pid"])
    return started is None or holder.get("started") in (None, started)


def _start_of(pid: int) -> str | None:
    """Start of a process in the kernel's ticks since boot; None without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses, which may hold anything; the start is the 22nd field.
    return stat.rpartition(")")[2].split()[19]
