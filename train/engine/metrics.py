"""What every training reports of its steps and of its end."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Where a run is after a step, and how fast it has been since the last logged one."""

    step: int  # steps done, this one included
    epoch: float
    lr: float
    clips_per_s: float
    data_wait_fraction: float  # of the wall time, in [0, 1]
    seconds: float  # since this process began to train


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended: complete, or stopped by a signal and saved."""

    run_dir: Path
    step: int
    num_steps: int
    checkpoint: Path
    weights: Path | None  # None while steps are left

    @property
    def complete(self) -> bool:
        return self.step == self.num_steps
