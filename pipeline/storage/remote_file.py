"""An open file at a URL, read a block at a time."""

import io
import shutil
import tempfile
from typing import Any, TypeVar

from cavsync.pipeline.storage.filesystem import StoreCall, StoreError, call_store
from cavsync.pipeline.storage.seekable_file import SeekableFile

# Files are read in blocks of this size, a few of which are kept: an mp4's index may be at its end.
BLOCK_BYTES, BLOCKS_KEPT = 4 * 2**20, 4
COPIED_BYTES = 2**20

T = TypeVar("T")


class RemoteFile(SeekableFile):
    """A seekable file that reads a block at a time.

    Libraries mistake a failed read for the end of a file; `failure` keeps the error for their caller.
    """

    def __init__(self, url: str, name: str, block_bytes: int = BLOCK_BYTES) -> None:
        self.name, self._url, self._block_bytes = name, url, block_bytes
        self.failure: OSError | None = None
        self._blocks: dict[int, bytes] = {}  # in order of last use
        super().__init__(*self._call(_opened))

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer unless the file ends first: pyarrow takes a short read for a damaged file."""
        num_read = 0
        while num_read < len(buffer):
            number, start = divmod(self._position, self._block_bytes)
            content = self._block(number)[start : start + len(buffer) - num_read]
            if not content:
                break
            buffer[num_read : num_read + len(content)] = content
            num_read += len(content)
            self._position += len(content)
        return num_read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._target(offset, whence) < 0:
            raise ValueError(f"{self._target(offset, whence)} is before the file")
        return super().seek(offset, whence)

    def close(self) -> None:
        super().close()
        self._blocks.clear()

    def _block(self, number: int) -> bytes:
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._fetched(number * self._block_bytes)
        self._blocks[number] = block
        if len(self._blocks) > BLOCKS_KEPT:
            del self._blocks[next(iter(self._blocks))]
        return block

    def _fetched(self, start: int) -> bytes:
        stop = min(start + self._block_bytes, self._num_bytes)

        def fetch(*_: object) -> bytes:
            self._file.seek(start)
            content: bytes = self._file.read(stop - start)
            return content

        if start >= stop:
            return b""
        try:
            return self._call(fetch)
        except StoreError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
        self.failure = None
        self._file, self._num_bytes = self._call(_copied)  # its server gives no ranges
        return self._call(fetch)

    def _call(self, call: StoreCall[T]) -> T:
        try:
            return call_store(self._url, "read", call)
        except OSError as error:
            self.failure = error
            raise


def _opened(files: Any, path: str) -> tuple[Any, int]:
    """An open file and its length."""
    file = files.open(path, "rb", cache_type="none")
    size = getattr(file, "size", None)
    if size is not None:
        return file, size
    file.close()  # a response of unknown length can only be read from front to back
    return _copied(files, path)


def in_one_request(files: Any, path: str) -> Any:
    """An open file of an HTTP server, for reading once from its beginning: many servers give no ranges."""
    return files.open(path, "rb", block_size=0)


def _copied(files: Any, path: str) -> tuple[Any, int]:
    """A local copy without a name, and its length."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    with in_one_request(files, path) as source:
        shutil.copyfileobj(source, copy, COPIED_BYTES)
    return copy, copy.tell()
