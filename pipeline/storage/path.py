"""A place: a file or folder on this machine or at a URL. Whoever reads or writes it need not know which.

A place on this machine is a pathlib.Path, used as ever; one at a URL has as much of pathlib's vocabulary as is used
here. What pathlib has no word for, and what a store of objects does in another way, is below.
"""

import hashlib
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from cavsync.pipeline.storage.filesystem import CHAIN, URL, StoreError, patience, protocol_of
from cavsync.pipeline.storage.remote_path import RemotePath

Place = Path | RemotePath

# Questions to a store that are open at one time.
MAX_REQUESTS = 16
COPIED_BYTES = 2**20
LETTING_GO_S = 0.9

T = TypeVar("T")
R = TypeVar("R")


def place_of(where: str | Place) -> Place:
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


def readable(where: Place) -> Any:
    """What pyarrow reads a table from: a path, or an open file of which it reads the columns it wants."""
    return where if isinstance(where, Path) else where.open("rb")


def read_through(where: Place) -> Any:
    """An open file, to be read once from its beginning."""
    return where.open("rb") if isinstance(where, Path) else where.read_through()


def num_bytes(where: Place) -> int:
    return where.stat().st_size if isinstance(where, Path) else where.num_bytes()


def read_range(where: Place, start: int, stop: int) -> bytes:
    """The bytes [start, stop)."""
    if isinstance(where, RemotePath):
        return where.read_range(start, stop)
    with where.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def files_below(folder: Place, is_wanted: Callable[[str], bool]) -> Iterator[str]:
    """Paths, relative to the folder, of the files in it and its folders whose names are wanted; in no order."""
    if isinstance(folder, RemotePath):
        yield from (path for path in folder.files_below() if is_wanted(path.rpartition("/")[2]))
        return
    for above, _, names in os.walk(folder):
        for name in filter(is_wanted, names):
            yield os.path.relpath(os.path.join(above, name), folder)


def each(ask: Callable[[T], R], items: Iterable[T], at: Place) -> Iterator[R]:
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
def local_copy(where: Place) -> Iterator[Path]:
    """The file, or a copy of what is at the URL; that one has no name, so nothing is left of it after a kill."""
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryFile() as copy, where.open("rb") as source:
        shutil.copyfileobj(source, copy, COPIED_BYTES)
        copy.flush()
        yield Path(f"/proc/{os.getpid()}/fd/{copy.fileno()}")


class Draft:
    """What will become a file: written through `file`, under its name only after `publish`.

    It is beside the place that it is for. A URL has no such place, and gets it from a temporary file without a name.
    """

    def __init__(self, final: Place) -> None:
        self._final = final
        self._path = temporary_name(final) if isinstance(final, Path) else None
        self.file: Any = tempfile.TemporaryFile() if self._path is None else self._path.open("w+b")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            self.file.close()  # writes what is left of it, for which a full disk has no room
        finally:
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def num_bytes(self) -> int:
        return int(self.file.seek(0, os.SEEK_END))

    def sha256(self) -> str:
        self.file.seek(0)
        return str(hashlib.file_digest(self.file, "sha256").hexdigest())

    def publish(self) -> None:
        """Give the content its name: at once and whole, whatever happens meanwhile."""
        if isinstance(self._final, RemotePath):
            self._final.write(self.file)
        elif self._path is not None:
            self.file.close()
            publish(self._path, self._final)


def publish(temporary: Path, final: Path) -> None:
    """Move a finished file to its name so that a crash leaves the old state or the new one, never a part."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_atomically(where: Place, content: bytes) -> None:
    with Draft(where) as draft:
        draft.file.write(content)
        draft.publish()


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other attempt uses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def remove_temporaries(folders: Iterable[Place]) -> None:
    """What killed runs left in folders in which nobody else works; at a URL nothing can be left."""
    for folder in folders:
        for leftover in folder.glob(".*.tmp") if isinstance(folder, Path) else ():
            leftover.unlink(missing_ok=True)


def let_go(where: Place) -> None:
    """Remove a file that the next run would know for left over; a store that does not answer is not waited for."""
    if isinstance(where, Path):
        where.unlink(missing_ok=True)
        return

    def try_once() -> None:
        with patience(0.0), suppress(StoreError):
            where.unlink(missing_ok=True)

    trial = threading.Thread(target=try_once, daemon=True)
    trial.start()
    trial.join(LETTING_GO_S)
