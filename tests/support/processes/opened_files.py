"""Detects by inotify whether any process has opened a file."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_OPEN = 0x20


class OpenedFile:
    """A file whose openings inotify records."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    def was_opened(self) -> bool:
        """Since the last call, or since the recording began."""
        try:
            return bool(os.read(self._descriptor, 2**16))
        except BlockingIOError:
            return False


@contextmanager
def record_opens(path: Path) -> Iterator[OpenedFile]:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(path), IN_OPEN) >= 0, os.strerror(
            ctypes.get_errno()
        )
        yield OpenedFile(path, descriptor)
    finally:
        os.close(descriptor)
