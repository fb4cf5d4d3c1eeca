"""Files written while training goes on: a copy of what they hold, and the thread that writes it."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from cavsync.errors import CavsyncError

logger = logging.getLogger(__name__)


def snapshot(state: Any) -> Any:
    """A copy of nested dicts, lists and tuples whose tensors are on the CPU and share nothing with those of `state`."""
    copied = _copied(state)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.current_stream().synchronize()  # the copies from a GPU are under way until here
    return copied


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        # From a GPU to pinned memory, which torch keeps for the next time.
        return state.detach().to("cpu", non_blocking=True) if state.is_cuda else state.detach().clone()
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_copied(value) for value in state)
    return state


class BackgroundWriter:
    """Runs one function at a time in a thread; what it raises is raised by the next call of a method."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint-writer")
        self._running: Future[object] | None = None

    def start(self, write: Callable[[], object]) -> None:
        """Waits for the function before it, then runs `write`."""
        self.wait()
        self._running = self._pool.submit(write)

    def wait(self) -> None:
        """Returns once nothing runs; raises the error of what did."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def require_no_error(self) -> None:
        """Raises the error of a function that has ended, without waiting for one that runs."""
        if self._running is not None and self._running.done():
            self.wait()

    def close(self) -> None:
        """Waits for what runs, as a training does that ends by another error; an error of its own is logged only."""
        try:
            self.wait()
        except CavsyncError as error:
            logger.warning("%s", error)
        self._pool.shutdown()
