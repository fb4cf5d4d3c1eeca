"""A place: a file or folder on this machine or at a URL. Whoever reads or writes it need not know which.

A place on this machine is a pathlib.Path, used as ever; one at a URL has as much of pathlib's vocabulary as is used
here. What pathlib has no word for, and what a store of objects does in another way, is below.
"""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from cavsync.pipeline.storage.filesystem import CHAIN, URL, StoreError, patience, protocol_of
from cavsync.pipeline.storage.remote_path import RemotePath

AnyPath = Path | RemotePath

# Questions to a store that are open at one time.
MAX_REQUESTS = 16
COPIED_BYTES = 2**20
RELEASE_S = 0.9

T = TypeVar("T")
R = TypeVar("R")


def as_path(where: str | AnyPath) -> AnyPath:
    """What begins like s3:// is a URL, anything else a path, and so is file://. Raises StoreError for no place."""
    if not isinstance(where, str):
        return where
    if CHAIN.match(where):
        raise StoreError(
            f"{where} is a place within another, which is not supported. Name one, like s3://BUCKET/NAME."
        )
    if not URL.match(where):
        return Path(where)
    if protocol_of(where) in {"file", "local"}:
        return Path(unquote(urlsplit(where).path))
    if where.endswith("://"):
        raise StoreError(f"{where} names no place. One is named like s3://BUCKET/NAME.")
    return RemotePath(where.rstrip("/"))


def readable(where: AnyPath) -> Any:
    """What pyarrow reads a table from: a path, or an open file of which it reads the columns it wants."""
    return where if isinstance(where, Path) else where.open("rb")


def read_through(where: AnyPath) -> Any:
    """An open file, to be read once from its beginning."""
    return where.open("rb") if isinstance(where, Path) else where.read_through()


def num_bytes(where: AnyPath) -> int:
    return where.stat().st_size if isinstance(where, Path) else where.num_bytes()


def read_range(where: AnyPath, start: int, stop: int) -> bytes:
    """The bytes [start, stop)."""
    if isinstance(where, RemotePath):
        return where.read_range(start, stop)
    with where.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def files_below(folder: AnyPath, is_wanted: Callable[[str], bool]) -> Iterator[str]:
    """Paths, relative to the folder, of the files in it and its folders whose names are wanted; in no order."""
    if isinstance(folder, RemotePath):
        yield from (path for path in folder.files_below() if is_wanted(path.rpartition("/")[2]))
        return
    for above, _, names in os.walk(folder):
        for name in filter(is_wanted, names):
            yield os.path.relpath(os.path.join(above, name), folder)


def each(ask: Callable[[T], R], items: Iterable[T], at: AnyPath) -> Iterator[R]:
    """`map`; at a URL, where every answer takes its time, with many questions at once."""
    if isinstance(at, Path):
        yield from map(ask, items)
        return
    pool = ThreadPoolExecutor(MAX_REQUESTS)
    try:
        yield from pool.map(ask, items)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def local_copy(where: AnyPath) -> Iterator[Path]:
    """The file, or a copy of what is at the URL; that one has no name, so nothing is left of it after a kill."""
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryFile() as copy, where.open("rb") as source:
        shutil.copyfileobj(source, copy, COPIED_BYTES)
        copy.flush()
        yield Path(f"/proc/{os.getpid()}/fd/{copy.fileno()}")


def release(where: AnyPath) -> None:
    """Remove a file that the next run would know for left over; a store that does not answer is not waited for."""
    if isinstance(where, Path):
        where.unlink(missing_ok=True)
        return

    def try_once() -> None:
        with patience(0.0), suppress(StoreError):
            where.unlink(missing_ok=True)

    trial = threading.Thread(target=try_once, daemon=True)
    trial.start()
    trial.join(RELEASE_S)


def sha256(path: AnyPath) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
