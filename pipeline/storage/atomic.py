"""Atomic writes: a file appears under its name whole, or not at all."""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cavsync.errors import DISK_ERRORS, CavsyncError, output_error, writing_output
from cavsync.pipeline.storage.path import AnyPath
from cavsync.pipeline.storage.remote_path import RemotePath


class AtomicWriter:
    """A temporary file, written through `file`; `publish` gives it the final name.

    For a path it lies beside the final file. For a URL it is a local file without a name, which `publish` uploads.
    """

    def __init__(self, final: AnyPath) -> None:
        self._final = final
        self._path = temporary_name(final) if isinstance(final, Path) else None
        with writing_output(str(final)):
            self.file: Any = tempfile.TemporaryFile() if self._path is None else self._path.open("w+b")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            with writing_output(str(self._final)):
                self.file.close()  # writes the rest of the buffer, which a full disk may refuse
        finally:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_ERRORS and not isinstance(error, CavsyncError):
            raise output_error(str(self._final), error) from error

    def num_bytes(self) -> int:
        return int(self.file.seek(0, os.SEEK_END))

    def sha256(self) -> str:
        self.file.seek(0)
        return str(hashlib.file_digest(self.file, "sha256").hexdigest())

    def publish(self) -> None:
        """Put the content under the final name in one step."""
        if isinstance(self._final, RemotePath):
            self._final.write(self.file)
        elif self._path is not None:
            self.file.close()
            publish(self._path, self._final)


def publish(temporary: Path, final: Path) -> None:
    """Rename a finished file so that a crash leaves the old state or the new one, never a part."""
    with writing_output(final):
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(where: AnyPath, content: bytes) -> None:
    with AtomicWriter(where) as output:
        output.file.write(content)
        output.publish()


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other attempt uses."""
    with writing_output(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def remove_temporaries(folders: Iterable[AnyPath]) -> None:
    """Remove what killed runs left in folders that no other run uses; at a URL nothing can be left."""
    for folder in folders:
        for leftover in folder.glob(".*.tmp") if isinstance(folder, Path) else ():
            leftover.unlink(missing_ok=True)
