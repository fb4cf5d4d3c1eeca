"""The exit code of an interrupted command, and SIGTERM that interrupts a preparation as Ctrl-C does."""

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
