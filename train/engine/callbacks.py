"""Callbacks of a run, and the monitor: the one that writes files to watch a run by.

validation.jsonl           one line per validation
tensorboard/               events: every logged number, every validation, every image
reconstructions/ and such  step-001000.png ..., a folder for each kind of image that validations draw
curves.png                 drawn when the run ends
"""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.config import RunConfig
from cavsync.train.engine.metrics import RunFacts, RunResult, StepMetrics, ValidationMetrics
from cavsync.train.engine.run_folder import (
    METRICS_NAME,
    VALIDATION_NAME,
    drop_lines_after,
    read_lines,
    with_nulls,
)

CURVES_NAME, EVENTS_NAME = "curves.png", "tensorboard"

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
        self.events = EventLog(self.run_dir, facts.steps_done) if self.config.tensorboard else None

    def on_log(self, metrics: StepMetrics[Any]) -> None:
        with warning_when_disk_is_full(f"step {metrics.step}"):
            if self.events:
                self.events.numbers("train", metrics.as_record(), metrics.step)

    def on_validation(self, metrics: ValidationMetrics) -> None:
        with warning_when_disk_is_full(f"step {metrics.step}"):
            # The end of a run that is resumed is validated again.
            drop_lines_after(self.validations, metrics.step - 1)
            with self.validations.open("a") as file:
                file.write(json.dumps(with_nulls(metrics.as_record())) + "\n")
            if self.events:
                self.events.numbers("validation", metrics.figures, metrics.step)
            for name, png in metrics.images.items():
                self._draw(name, png, metrics.step)

    def on_train_end(self, result: RunResult, model: nn.Module) -> None:
        with warning_when_disk_is_full("the end of the run"):
            if self.events:
                self.events.close()
            metrics = self.run_dir / METRICS_NAME
            if self.config.curves and metrics.exists():
                png = self._draw_curves(read_lines(metrics), read_lines(self.validations))
                write_atomically(self.run_dir / CURVES_NAME, png)

    def _draw(self, name: str, png: bytes, step: int) -> None:
        folder = self.run_dir / name
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"step-{step:06d}.png", png)
        if self.events:
            self.events.image(name, png, step)


class EventLog:
    """The folder `tensorboard/` of a run; steps after `steps_done` that a killed run left there are dropped."""

    def __init__(self, run_dir: Path, steps_done: int) -> None:
        # TensorBoard takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / EVENTS_NAME), purge_step=steps_done + 1)

    def numbers(self, group: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            if name != "step":
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def image(self, name: str, png: bytes, step: int) -> None:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))  # (height, width, 3)
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


@contextmanager
def warning_when_disk_is_full(when: str) -> Iterator[None]:
    """Logs an OSError: a run does not end because a file to watch it by cannot be written."""
    try:
        yield
    except OSError as error:
        logger.warning("The monitor cannot write at %s: %s. The run goes on.", when, error)
