"""What the loop needs of one kind of training, such as pretraining or fine-tuning."""

from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from cavsync.train.engine.config import RunConfig
from cavsync.train.engine.metrics import RunFacts, ValidationMetrics
from cavsync.train.engine.step import TrainStep


class TrainingTask(Protocol):
    """What one kind of training brings to the loop: its batches, its step, its checkpoint and its validation."""

    @property
    def config(self) -> RunConfig:
        """The resolved configuration, which the run folder stores."""
        ...

    @property
    def step(self) -> TrainStep[Any]:
        """The model with its optimizer and loss."""
        ...

    @property
    def num_steps(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int: ...

    def facts(self, run_dir: Path, steps_done: int) -> RunFacts: ...

    def batches(self, steps_done: int) -> Generator[dict[str, Any], None, None]:
        """This rank's part of each batch after `steps_done` steps, without end."""
        ...

    def end_epoch(self, epoch: int) -> None:
        """Called after the last step of each epoch, counted from 1."""
        ...

    def state_dict(self, steps_done: int) -> dict[str, Any]:
        """The entries of a checkpoint besides those of the step: tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        """Restores `state_dict` from the checkpoint `path`; RunError where it belongs to other data."""
        ...

    def is_validated_after(self, step: int) -> bool:
        """Whether a validation is due; the end of the run always is."""
        ...

    def validate(self, step: int) -> ValidationMetrics | None:
        """Scores held-out clips, in the first rank only; None where there are none."""
        ...

    def save_weights(self, path: Path) -> None:
        """Writes the resulting weights; nothing is trained afterwards."""
        ...

    def draw_curves(self, metrics: pd.DataFrame, validations: pd.DataFrame) -> bytes:
        """A PNG of the lines of metrics.jsonl and validation.jsonl."""
        ...
