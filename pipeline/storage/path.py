"""Paths of files and folders, local or at a URL, and the operations that differ between the two.

A local path is a pathlib.Path; a path at a URL is a RemotePath, which has the part of pathlib's interface that is used
here. A file inside an archive is a MemberPath, which can only be read.
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
from typing import Any, TypeVar, overload
from urllib.parse import unquote, urlsplit

from cavsync.pipeline.storage.filesystem import (
    CHAINED_URL,
    MAX_REQUESTS,
    URL,
    StoreError,
    protocol_of,
    retry_timeout,
)
from cavsync.pipeline.storage.member_path import MemberPath, file_stamp
from cavsync.pipeline.storage.remote_path import RemotePath

AnyPath = Path | RemotePath
# What a media file may lie in.
MediaPath = AnyPath | MemberPath

COPIED_BYTES = 2**20
RELEASE_S = 0.9

T = TypeVar("T")
R = TypeVar("R")


@overload
def as_path(where: str | AnyPath) -> AnyPath: ...
@overload
def as_path(where: str | MediaPath) -> MediaPath: ...
def as_path(where: str | MediaPath) -> MediaPath:
    """A RemotePath for what begins like s3://, a Path for the rest and for file://. Raises StoreError for a bad URL."""
    if not isinstance(where, str):
        return where
    if CHAINED_URL.match(where):
        raise StoreError(
            f"{where} is a chain of URLs, which is not supported. Give one URL, like s3://BUCKET/NAME."
        )
    if not URL.match(where):
        return Path(where)
    if protocol_of(where) in {"file", "local"}:
        return Path(unquote(urlsplit(where).path))
    if where.endswith("://"):
        raise StoreError(f"{where} names no file or folder. A URL is like s3://BUCKET/NAME.")
    return RemotePath(where.rstrip("/"))


def readable(where: AnyPath) -> Any:
    """What pyarrow can read a table from: a local path, or an open remote file of which it reads some columns."""
    return where if isinstance(where, Path) else where.open("rb")


def read_through(where: AnyPath) -> Any:
    """An open file, for reading once from its beginning."""
    return where.open("rb") if isinstance(where, Path) else where.read_through()


def num_bytes(where: MediaPath) -> int:
    return where.stat().st_size if isinstance(where, Path) else where.num_bytes()


def stamp(where: AnyPath) -> str:
    """Changes with the file's content: its length, and when it was changed or its tag at a store."""
    if not isinstance(where, Path):
        return where.stamp()
    return file_stamp(where.stat())


def read_range(where: MediaPath, start: int, stop: int) -> bytes:
    """The bytes [start, stop)."""
    if not isinstance(where, Path):
        return where.read_range(start, stop)
    with where.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def files_below(folder: AnyPath, is_wanted: Callable[[str], bool]) -> Iterator[str]:
    """Relative paths of all files below the folder whose names are wanted, in no order."""
    if isinstance(folder, RemotePath):
        yield from (path for path in folder.files_below() if is_wanted(path.rpartition("/")[2]))
        return
    for above, _, names in os.walk(folder):
        for name in filter(is_wanted, names):
            yield os.path.relpath(os.path.join(above, name), folder)


def each(function: Callable[[T], R], items: Iterable[T], at: AnyPath) -> Iterator[R]:
    """`map(function, items)` for functions that read at `at`; at a URL, many at once."""
    if isinstance(at, Path):
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(MAX_REQUESTS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def local_copy(where: MediaPath) -> Iterator[Path]:
    """The file itself, or a temporary copy of one at a URL or in an archive; the copy has no name, so a kill leaves nothing."""
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryFile() as copy, where.open("rb") as source:
        shutil.copyfileobj(source, copy, COPIED_BYTES)
        copy.flush()
        yield Path(f"/proc/{os.getpid()}/fd/{copy.fileno()}")


def release(where: AnyPath) -> None:
    """Remove a file that a later run would replace anyway, without waiting for a store that does not answer."""
    if isinstance(where, Path):
        where.unlink(missing_ok=True)
        return

    def try_once() -> None:
        with retry_timeout(0.0), suppress(StoreError):
            where.unlink(missing_ok=True)

    thread = threading.Thread(target=try_once, daemon=True)
    thread.start()
    thread.join(RELEASE_S)


def sha256(path: AnyPath) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
