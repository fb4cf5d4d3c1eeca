"""The speed of a training, and how much of its time the device waited for data."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The fields of `StepMetrics` that measure speed."""

    clips_per_s: float
    data_wait_fraction: float  # of the wall time, in [0, 1]
    seconds: float  # since the watch was made


class StopWatch:
    """Counts steps of `batch_size` clips, and the wall time, since the last `restart`."""

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self.batch_size, self.device, self.began_s = batch_size, device, time.perf_counter()
        self.restart()

    def restart(self) -> None:
        self.restarted_s, self.waited_s, self.num_steps = time.perf_counter(), 0.0, 0
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; the time until one comes counts as waiting, and with it a step begins.

        A GPU that still computes does not wait: there the time counts from the end of its work in hand.
        """
        while True:
            requested_s, requested = time.perf_counter(), self._now()
            batch = next(batches)
            came = self._now()
            if requested is None or came is None:
                self.waited_s += time.perf_counter() - requested_s
            else:
                self._waits.append((requested, came))
            self.num_steps += 1
            yield batch

    def read(self) -> Speed:
        now_s = time.perf_counter()
        elapsed_s = now_s - self.restarted_s
        return Speed(
            clips_per_s=self.num_steps * self.batch_size / elapsed_s,
            data_wait_fraction=self._seconds_waited() / elapsed_s,
            seconds=now_s - self.began_s,
        )

    def _now(self) -> torch.cuda.Event | None:
        """A mark in the GPU's queue, which gets its time when the work before it is done; None on the CPU."""
        if self.device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _seconds_waited(self) -> float:
        """Of the GPU's waits those that it has come to; nothing here waits for it."""
        ended = [pair for pair in self._waits if pair[1].query()]  # type: ignore[no-untyped-call]
        self._waits = self._waits[len(ended) :]
        self.waited_s += sum(requested.elapsed_time(came) for requested, came in ended) / 1000
        return self.waited_s
