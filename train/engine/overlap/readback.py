"""Numbers of a step on their way from the device, and whether every step so far was finite."""

from collections import deque
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Readback:
    """Numbers that a step computes, copied to the host as soon as it has; to read them waits for no later step."""

    def __init__(self, values: Tensor) -> None:
        """`values` is (n,) float32, on any device."""
        # Memory that is pinned, so that the copy is one more operation in the device's queue.
        self._host = values.detach().to("cpu", non_blocking=True)
        self._event = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(values.device))

    @property
    def is_ready(self) -> bool:
        """Whether `read` would return at once."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def read(self) -> list[float]:
        """The n numbers, once the device has computed them."""
        if self._event is not None:
            self._event.synchronize()
        values: list[float] = self._host.tolist()
        return values


class FiniteCheck(Generic[T]):
    """Finds the first step with a NaN or infinite number, on the device and without waiting for it.

    `failed` is known to the device within the step, and stays 1 from the first such step on: an update that it gates
    is skipped in that step and in every later one, however late the host learns of it.
    """

    def __init__(self, device: torch.device) -> None:
        self.failed = torch.zeros((), device=device)
        """float32 scalar on the device: 1 where a step so far was not finite, else 0."""
        self._unread: deque[tuple[T, Readback]] = deque()

    def add(self, about: T, values: Tensor) -> None:
        """One more step, `about` which a message would be, with its numbers `values`, (n,)."""
        # A new tensor each time: the host may still read the one before.
        self.failed = torch.maximum(self.failed, values.detach().isfinite().logical_not().any().float())
        self._unread.append((about, Readback(self.failed)))

    def first_failure(self, newest_left: int) -> T | None:
        """What `add` was given with the first step that is not finite, None where there is none.

        Waits for all steps but the `newest_left` last ones, which are left for later.
        """
        while len(self._unread) > newest_left:
            about, failed = self._unread.popleft()
            if failed.read():
                return about
        return None
