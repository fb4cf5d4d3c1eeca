"""One run at a time in a dataset's folder, on this machine or at a URL."""

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
    """Another run works in the folder; the message says which."""


@contextmanager
def run_lock(folder: AnyPath) -> Iterator[None]:
    """Hold `folder`/.lock while the block runs. Raises LockError while another living run holds it.

    The lock of a process of this host that no longer lives is taken over.
    """
    path = folder / LOCK_NAME
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder.require_writable()
    with _alone(folder):
        _remove_if_stale(path)
        _create(path)
    try:
        yield
    finally:
        release(path)


@contextmanager
def _alone(folder: AnyPath) -> Iterator[None]:
    """One process of this host at a time: else two that find a stale lock could remove each other's new one."""
    descriptor = os.open(folder if isinstance(folder, Path) else tempfile.gettempdir(), os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock nothing; the race is small
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
    # A store that cannot tell whether there is one lets two write that are equally fast; the later one has it.
    found = read_holder(path)
    if found != holder:
        raise _refusal(path, found or {"pid": "?", "host": "another host", "since": "this moment"})


def _link(path: Path, holder: str) -> None:
    """Written whole before it gets its name, so nobody reads half of it; a link never replaces what is there."""
    draft = path.with_name(f".lock.{socket.gethostname()}.{os.getpid()}.tmp")
    draft.write_text(holder)
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def _remove_if_stale(path: AnyPath) -> None:
    """Raises LockError when the lock is somebody's."""
    holder = read_holder(path)
    if holder is None:
        return
    if holder["host"] != socket.gethostname() or lives(holder):
        raise _refusal(path, holder)
    path.unlink(missing_ok=True)


def read_holder(path: AnyPath) -> dict[str, Any] | None:
    """Who has the lock; None where nobody has."""
    try:
        holder: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return holder


def _refusal(path: AnyPath, holder: dict[str, Any]) -> LockError:
    return LockError(
        f"{path.parent} is being prepared by process {holder['pid']} on {holder['host']} since {holder['since']}. "
        f"Wait for it or stop it; if no such process exists any more, delete {path}."
    )


def lives(holder: dict[str, Any]) -> bool:
    """Whether that very process runs: another one that got its number since began at another time."""
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's process
    started = _start_of(holder["pid"])
    return started is None or holder.get("started") in (None, started)


def _start_of(pid: int) -> str | None:
    """When a process began, in the kernel's ticks since boot; None where no /proc tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses, which may hold anything; the start is the 22nd field.
    return stat.rpartition(")")[2].split()[19]
