"""Callbacks of a run, and the monitor: the one that writes files to watch a run by.

validation.jsonl           one line per validation
trackers.json, tensorboard/ and such   of the trackers: every logged number, every validation, every image
reconstructions/ and such  step-001000.png ..., a folder for each kind of image that validations draw
curves.png                 drawn when the run ends
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import pandas as pd
from torch import nn

from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.config import RunConfig, as_dict
from cavsync.train.engine.metrics import RunFacts, RunResult, StepMetrics, ValidationMetrics
from cavsync.train.engine.run_folder import (
    METRICS_NAME,
    VALIDATION_NAME,
    drop_lines_after,
    read_lines,
    with_nulls,
)
from cavsync.train.engine.tracking.tracker import TrackedRun
from cavsync.train.engine.tracking.trackers import Trackers

CURVES_NAME = "curves.png"

DrawCurves = Callable[[pd.DataFrame, pd.DataFrame], bytes]

logger = logging.getLogger(__name__)


class TrainerCallback(Protocol):
    """Called while a run trains, in the first rank only; the other ranks wait. Each method does nothing by default.

    It may call the model under `torch.no_grad()`, and leaves it in training mode. Training draws nothing from
    torch's global generators, so a callback may.
    """

    def on_train_begin(self, facts: RunFacts, config: RunConfig, model: nn.Module) -> None:
        """Before the first step; `config` is the resolved one, `model` is on its device."""
        return

    def on_clip_encoded(self, num_done: int, num_clips: int) -> None:
        """Before the first step, where a run caches the features of its clips."""
        return

    def on_step_end(self, metrics: StepMetrics[Any], model: nn.Module, batch: Mapping[str, Any]) -> None:
        """After each step; `batch` is this rank's part, as the loader gave it."""
        return

    def on_log(self, metrics: StepMetrics[Any]) -> None:
        """After each line of metrics.jsonl."""
        return

    def on_validation(self, metrics: ValidationMetrics) -> None:
        """After each validation, and after that of the resulting weights."""
        return

    def on_train_end(self, result: RunResult, model: nn.Module) -> None:
        """After the last step, complete or stopped; the last checkpoint is on disk."""
        return


class Monitor(TrainerCallback):
    """Writes what `config.monitor` asks for; `draw_curves` makes a PNG of metrics.jsonl and validation.jsonl."""

    def __init__(self, draw_curves: DrawCurves) -> None:
        self._draw_curves = draw_curves

    def on_train_begin(self, facts: RunFacts, config: RunConfig, model: nn.Module) -> None:
        self.config, self.run_dir = config.monitor, facts.run_dir
        self.validations = self.run_dir / VALIDATION_NAME
        drop_lines_after(self.validations, facts.steps_done)
        run = TrackedRun(
            run_dir=self.run_dir,
            project=self.config.project,
            config=as_dict(config),
            steps_done=facts.steps_done,
        )
        self.trackers = Trackers(self.config.trackers, run)
        self.last: ValidationMetrics | None = None

    def on_log(self, metrics: StepMetrics[Any]) -> None:
        self.trackers.numbers("train", metrics.as_record(), metrics.step)

    def on_validation(self, metrics: ValidationMetrics) -> None:
        self.last = metrics
        self.trackers.numbers("validation", metrics.figures, metrics.step)
        for name, png in metrics.images.items():
            self.trackers.image(name, png, metrics.step)
        with warning_when_disk_is_full(f"step {metrics.step}"):
            # The end of a run that is resumed is validated again.
            drop_lines_after(self.validations, metrics.step - 1)
            with self.validations.open("a") as file:
                file.write(json.dumps(with_nulls(metrics.as_record())) + "\n")
            for name, png in metrics.images.items():
                self._draw(name, png, metrics.step)

    def on_train_end(self, result: RunResult, model: nn.Module) -> None:
        metrics = self.run_dir / METRICS_NAME
        if self.config.curves and metrics.exists():
            png = self._draw_curves(read_lines(metrics), read_lines(self.validations))
            self.trackers.image("curves", png, result.step)
            with warning_when_disk_is_full("the end of the run"):
                write_atomically(self.run_dir / CURVES_NAME, png)
        if result.complete and self.last is not None:
            self.trackers.numbers("final", self.last.figures, result.step)
        self.trackers.close(result.complete, result.step)

    def _draw(self, name: str, png: bytes, step: int) -> None:
        folder = self.run_dir / name
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"step-{step:06d}.png", png)


@contextmanager
def warning_when_disk_is_full(when: str) -> Iterator[None]:
    """Logs an OSError: a run does not end because a file to watch it by cannot be written."""
    try:
        yield
    except OSError as error:
        logger.warning("The monitor cannot write at %s: %s. The run goes on.", when, error)
