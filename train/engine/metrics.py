"""Records of a run: its start, its steps, its validations and its end."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

L = TypeVar("L", bound="Losses")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A run before its first step."""

    run_dir: Path
    preset: str
    dataset: str
    initial_weights: str  # of step 0
    num_clips: int
    num_left_out: int  # clips of the split, for data.max_gap_s
    num_parameters: int  # those that train
    num_steps: int
    steps_done: int  # more than 0 on resume
    batch_size: int  # over all ranks
    num_ranks: int
    device: str
    precision: str
    changes: tuple[str, ...] = ()  # on resume: sentences on what is other than before


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The loss of a step, over all ranks; each training adds the parts of its loss."""

    loss: float
    grad_norm: float  # before clipping


@dataclass(frozen=True, kw_only=True)
class StepMetrics(Generic[L]):
    """One step, and the speed since the last logged one."""

    losses: L
    step: int  # steps done, this one included
    epoch: float
    lr: float
    clips_per_s: float
    data_wait_fraction: float  # of the wall time, in [0, 1]
    seconds: float  # since this process began to train

    def as_record(self) -> dict[str, float]:
        """All numbers by name, as in a line of metrics.jsonl."""
        record = dataclasses.asdict(self)
        return {**record.pop("losses"), **record}


@dataclass(frozen=True, kw_only=True)
class ValidationMetrics:
    """One validation on clips that are not trained on; its figures depend on the training."""

    step: int
    epoch: float
    figures: Mapping[str, float]
    images: Mapping[str, bytes] = field(default_factory=dict)  # PNG, by name

    def as_record(self) -> dict[str, float]:
        """All numbers by name, as in a line of validation.jsonl."""
        return {"step": self.step, "epoch": self.epoch, **self.figures}


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The end of a run: complete, or stopped by a signal and saved."""

    run_dir: Path
    step: int
    num_steps: int
    checkpoint: Path
    weights: Path | None  # None while steps are left
    last: StepMetrics[Any] | None  # None when no step was left to do

    @property
    def complete(self) -> bool:
        return self.step == self.num_steps


class StopWatch:
    """Counts steps of `batch_size` clips, and the wall time, since the last `restart`."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.began_s = batch_size, time.perf_counter()
        self.restart()

    def restart(self) -> None:
        self.restarted_s, self.waited_s, self.num_steps = time.perf_counter(), 0.0, 0

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; the time until one comes counts as waiting, and with it a step begins."""
        while True:
            requested_s = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - requested_s
            self.num_steps += 1
            yield batch

    def read(self) -> dict[str, float]:
        """The fields of `StepMetrics` that measure speed."""
        now_s = time.perf_counter()
        elapsed_s = now_s - self.restarted_s
        return {
            "clips_per_s": self.num_steps * self.batch_size / elapsed_s,
            "data_wait_fraction": self.waited_s / elapsed_s,
            "seconds": now_s - self.began_s,
        }
