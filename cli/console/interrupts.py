"""Ctrl-C and SIGTERM end a command in the same way: the run cleans up, and the exit code is 130."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_INTERRUPTED = 130


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Schedulers and `kill` send SIGTERM: inside the block it raises KeyboardInterrupt, so that the run cleans up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
