"""Ending a run on request: the step under way is finished and saved first."""

import signal
import threading
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Within `with`, SIGTERM and Ctrl-C set `.requested` instead of killing; a second one kills.

    Signals reach the main thread only; in another thread this never requests anything.
    """

    requested = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        else:
            self._before = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def ignore_in_worker(worker: int) -> None:
    """A signal to the whole process group must not kill the loader under a step that is to be saved."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
