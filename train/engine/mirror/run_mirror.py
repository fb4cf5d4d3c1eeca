"""A run folder at a URL: a run works in a local folder, from which its files are copied there.

A checkpoint is there whole or not at all, since a store shows a file when it has all of it. Other files are copied
before each checkpoint and at the end; they may be ahead of the newest checkpoint, never behind it.
"""

import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath, stamp
from cavsync.pipeline.storage.remote_path import RemotePath

CHECKPOINTS = "checkpoints"
CHECKPOINT = re.compile(r"step-\d+\.pt")
# Between two copies of the metrics while a run goes on.
COPY_EVERY_S = 30.0

logger = logging.getLogger(__name__)


class RunMirror:
    """The run folder at `url`, and its local copy; one process writes, others only fetch."""

    def __init__(self, url: RemotePath, local: Path) -> None:
        self.url, self.local = url, local
        self.all_copied = True
        self._copied: dict[str, str] = {}
        self._lock = RLock()  # fsspec commits the open files of all threads at once
        self._pool = ThreadPoolExecutor(1, "run-mirror")
        self._copying: Future[None] | None = None
        self._copied_s = time.monotonic()

    def holds_files(self) -> bool:
        """Whether something is at the URL."""
        return bool(self.url.files_below())

    def fetch(self) -> None:
        """Copies the files of the run folder here, but none of those in its folders."""
        for name in self.url.files_below():
            if "/" not in name:
                fetch_file(self.url / name, self.local / name)
                self._copied[name] = stamp(self.local / name)

    def checkpoint_names(self) -> list[str]:
        """The names of the checkpoints at the URL, in no order."""
        return checkpoint_names(self.url)

    def fetch_checkpoint(self, name: str) -> None:
        """Copies a checkpoint here, unless it is here."""
        if not (self.local / CHECKPOINTS / name).exists():
            fetch_file(self.url / CHECKPOINTS / name, self.local / CHECKPOINTS / name)

    def put_checkpoint(self, name: str) -> None:
        """Copies a checkpoint there, after all that belongs to it. Raises StoreError, and keeps the local file, where the
        store does not take it."""
        self.all_copied = False
        self.copy()
        self._put(f"{CHECKPOINTS}/{name}")
        self.all_copied = True

    def remove_checkpoint(self, name: str) -> None:
        (self.url / CHECKPOINTS / name).unlink(missing_ok=True)

    def copy(self) -> None:
        """Copies what has changed, and removes there what was removed here; checkpoints are left alone."""
        with self._lock:
            files = {str(path.relative_to(self.local)): path for path in self.local.rglob("*")}
            there = {name: path for name, path in files.items() if self._is_copied(name, path)}
            for name, path in sorted(there.items()):
                with suppress(FileNotFoundError):  # of a tracker, which has removed it by now
                    state = stamp(path)
                    if self._copied.get(name) != state:
                        self._put(name)
                        self._copied[name] = state
            for name in self._copied.keys() - there.keys():
                (self.url / name).unlink(missing_ok=True)
                del self._copied[name]

    def copy_now_and_then(self) -> None:
        """`copy` in a thread, so often that the run can be watched; where it fails, the next time copies the rest."""
        idle = self._copying is None or self._copying.done()
        if idle and time.monotonic() - self._copied_s > COPY_EVERY_S:
            self._copied_s = time.monotonic()
            self._copying = self._pool.submit(self._try_to_copy)

    def close(self) -> None:
        self._pool.shutdown()

    def _try_to_copy(self) -> None:
        try:
            self.copy()
        except StoreError as error:
            logger.warning("The metrics at %s are not up to date: %s The run goes on.", self.url, error)

    def _is_copied(self, name: str, path: Path) -> bool:
        is_temporary = path.name.startswith(".") and path.name.endswith(".tmp")
        return path.is_file() and not is_temporary and not name.startswith(f"{CHECKPOINTS}/")

    def _put(self, name: str) -> None:
        with self._lock, (self.local / name).open("rb") as file:
            (self.url / name).write(file)


@contextmanager
def run_at(where: AnyPath, *, resume: bool, writes: bool) -> Iterator[tuple[Path, RunMirror | None]]:
    """The folder that a run in `where` works in, and what copies it to a URL; with `resume` it has the run's files.

    The folder of a run at a URL is removed at the end, unless the store did not take all of it. `writes` is False for
    processes that leave the run folder alone.
    """
    if isinstance(where, Path):
        yield where, None
        return
    where.require_writable()
    scratch = Path(tempfile.mkdtemp(prefix="cavsync-run-"))
    local = scratch / where.name
    local.mkdir()
    mirror = RunMirror(where, local)
    try:
        if resume:
            mirror.fetch()
        try:
            yield local, mirror
        except CavsyncError:
            if writes:
                mirror._try_to_copy()
            raise
        if writes:
            mirror.copy()
    except StoreError:
        mirror.all_copied = False
        raise
    finally:
        mirror.close()
        if mirror.all_copied or not writes:
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            logger.warning("%s did not take all of the run: the rest is in %s.", where, local)


def checkpoint_names(run: RemotePath) -> list[str]:
    """The names of the training checkpoints in a run folder at a URL, in no order."""
    return [name for name in (run / CHECKPOINTS).files_below() if CHECKPOINT.fullmatch(name)]


def fetch_file(source: RemotePath, target: Path) -> None:
    """Copies a file of a store to `target`, which is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            with source.open("rb") as content:
                shutil.copyfileobj(content, file, 2**20)
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
