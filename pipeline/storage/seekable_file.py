"""What open files that read another one have in common: a position, and a length that is known."""

import io
from typing import Any


class SeekableFile(io.RawIOBase):
    """A file of `num_bytes` bytes that are read from `file`, which is closed with it; `readinto` says how."""

    def __init__(self, file: Any, num_bytes: int) -> None:
        self._file, self._num_bytes, self._position = file, num_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """A place before the file is its beginning."""
        self._position = max(0, self._target(offset, whence))
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _target(self, offset: int, whence: int) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._num_bytes}[whence]
        return begin + offset
