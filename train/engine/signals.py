"""SIGTERM and Ctrl-C end a run after the current step, which is saved first."""

import signal
import threading
import time
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 10
# One Ctrl-C reaches a process from the terminal, and again from a launcher that passes it on.
ECHO_S = 2


class StopRequest:
    """Within `with`, SIGTERM and Ctrl-C set `.requested` instead of killing; another one, seconds later, kills.

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
        if not self.requested:
            self.requested, self._requested_s = True, time.monotonic()
        elif time.monotonic() - self._requested_s > ECHO_S:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def finish_the_step(worker: int) -> None:
    """For a worker of the loader: a signal to the whole process group must not kill it under the last step.

    SIGTERM ends it a little later, since that is also how a parent that failed gets rid of it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE_S))
