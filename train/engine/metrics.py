"""Records of a run: its start, its steps, its validations and its end."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from cavsync.train.engine.overlap.readback import Readback

L = TypeVar("L", bound="Losses")


@dataclass(frozen=True)
class DatasetShare:
    """One of the datasets of a run."""

    path: str
    num_clips: int
    num_drawn: int  # clips of it in an epoch


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A run before its first step."""

    run_dir: Path
    preset: str
    dataset: str
    initial_weights: str  # of step 0
    num_clips: int
    num_left_out: int  # clips of the split, for data.max_gap_s and data.keep
    num_parameters: int  # those that train
    num_steps: int
    steps_done: int  # more than 0 on resume
    batch_size: int  # over all ranks
    num_ranks: int
    device: str
    precision: str
    compiled: bool = False  # by torch.compile, in the first step
    shares: tuple[DatasetShare, ...] = ()  # of each dataset, where there are several
    num_repeated_keys: int | None = 0
    """Clips that have the key of a clip in an earlier dataset; None where the keys are not read at the start."""
    changes: tuple[str, ...] = ()  # on resume: sentences on what is other than before
    url: str | None = None  # where the run folder is copied to

    @property
    def run_name(self) -> str:
        """The run folder as the user names it."""
        return self.url or str(self.run_dir)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The loss of a step, over all ranks; each training adds the parts of its loss."""

    loss: float
    grad_norm: float  # before clipping


class StepLosses(Generic[L]):
    """The losses of a step on their way from the device."""

    def __init__(self, kind: type[L], values: Mapping[str, Tensor]) -> None:
        """`values` are scalars on the device, one for each field of `kind`."""
        self._kind, self._names = kind, list(values)
        self.stacked = torch.stack([value.detach().float() for value in values.values()])
        """float32 (losses,) on the device."""
        self._readback = Readback(self.stacked)

    @property
    def is_ready(self) -> bool:
        """Whether `read` would return at once; on the CPU it always does."""
        return self._readback.is_ready

    def read(self) -> L:
        """The losses, once the device has computed the step; later steps may be under way."""
        return self._kind(**self.by_name())

    def by_name(self) -> dict[str, float]:
        """The numbers that `read` returns, in the order in which they were computed."""
        return dict(zip(self._names, self._readback.read(), strict=True))


@dataclass(frozen=True, kw_only=True)
class StepMetrics(Generic[L]):
    """One step, and the speed since the last logged one."""

    pending: StepLosses[L]
    step: int  # steps done, this one included
    epoch: float
    lr: float
    clips_per_s: float
    data_wait_fraction: float  # of the wall time, in [0, 1]: the device stood still until its batch came
    # Since the last logged step: training stood still to copy what checkpoints hold.
    checkpoint_stall_s: float
    seconds: float  # since this process began to train

    @cached_property
    def losses(self) -> L:
        """Waits for the step, if the device still computes it."""
        return self.pending.read()

    def as_record(self) -> dict[str, float]:
        """All numbers by name, as in a line of metrics.jsonl."""
        own = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "pending"}
        return {**dataclasses.asdict(self.losses), **own}


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
    url: str | None = None  # where the run folder is copied to; the local one is gone then

    def shown(self, path: Path) -> str:
        """A file of the run folder, or that folder, as the user finds it."""
        if self.url is None:
            return str(path)
        return "/".join([self.url, *path.relative_to(self.run_dir).parts])

    @property
    def complete(self) -> bool:
        return self.step == self.num_steps
