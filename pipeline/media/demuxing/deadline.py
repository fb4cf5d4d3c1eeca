"""The wall clock that one clip may take."""

import time

from cavsync.pipeline.dataset.schema import ClipState, MediaError


class Deadline:
    """Runs from its creation on."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s, self._ends = timeout_s, time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    def check(self) -> None:
        """Raises MediaError when the time is over."""
        if time.monotonic() >= self._ends:
            raise self.passed()

    def passed(self) -> MediaError:
        return MediaError(ClipState.TIMEOUT, f"not decoded within {self._timeout_s:g} s")
