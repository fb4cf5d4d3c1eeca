"""How fast a run goes, and how much of its time goes by in waiting for data."""

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class StopWatch:
    """Counts steps of `batch_size` clips, and the wall time, since the last `restart`."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.began_s = batch_size, time.perf_counter()
        self.restart()

    def restart(self) -> None:
        self.restarted_s, self.waited_s, self.num_steps = time.perf_counter(), 0.0, 0

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; the time that one takes counts as waiting, and with it a step begins."""
        while True:
            asked_s = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - asked_s
            self.num_steps += 1
            yield batch

    def read(self) -> dict[str, float]:
        now_s = time.perf_counter()
        elapsed_s = now_s - self.restarted_s
        return {
            "clips_per_s": self.num_steps * self.batch_size / elapsed_s,
            "data_wait_fraction": self.waited_s / elapsed_s,
            "seconds": now_s - self.began_s,
        }
