"""Watching a pretraining run: TensorBoard, validation on held-out clips, reconstructions, curves at its end.

tensorboard/               events: every logged number, every validation, every image
validation.jsonl                one line per validation on held-out clips
reconstructions/           step-001000.png ...
curves.png                 drawn when the run ends
"""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.dataset.reader import DatasetError
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.run_folder import VALIDATION_NAME, forget_lines_after
from cavsync.train.engine.tensorboard import EventLog
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.held_out import HeldOutClips
from cavsync.train.pretrain.metrics import PretrainResult, RunFacts, StepMetrics
from cavsync.train.pretrain.plots import reconstructions, run_curves

CURVES_NAME, RECONSTRUCTIONS_NAME = "curves.png", "reconstructions"

logger = logging.getLogger(__name__)


class Monitor:
    """An `TrainerCallback` that does what `config.monitor` says."""

    def started(self, facts: RunFacts, config: PretrainConfig, model: CavMaeSync) -> None:
        self.config, self.monitor, self.run_dir = config, config.monitor, facts.run_dir
        self.num_steps, self.device = facts.num_steps, next(model.parameters()).device
        self.validations = self.run_dir / VALIDATION_NAME
        forget_lines_after(self.validations, facts.steps_done)
        self.events = EventLog(self.run_dir, facts.steps_done) if self.monitor.tensorboard else None
        self.held_out = self._held_out()

    def stepped(self, metrics: StepMetrics, model: CavMaeSync, batch: Mapping[str, Any]) -> None:
        with unless_disk_is_full(f"step {metrics.step}"):
            if self.events and metrics.step % self.config.log_every_steps == 0:
                self.events.numbers("train", _without_step(metrics), metrics.step)
            every = self.monitor.every_steps
            if every and (metrics.step % every == 0 or metrics.step == self.num_steps):
                self._validate(model, metrics.step)

    def ended(self, result: PretrainResult, model: CavMaeSync) -> None:
        with unless_disk_is_full("the end of the run"):
            if self.events:
                self.events.close()
            self._draw_curves(self.run_dir / "metrics.jsonl")

    def _draw_curves(self, metrics: Path) -> None:
        if self.monitor.curves and metrics.exists():
            validations = (
                pd.read_json(self.validations, lines=True) if self.validations.exists() else pd.DataFrame()
            )
            write_atomically(
                self.run_dir / CURVES_NAME, run_curves(pd.read_json(metrics, lines=True), validations)
            )

    def _held_out(self) -> HeldOutClips | None:
        """None, and a line of log, where the dataset has no such split or is not on a disk."""
        if self.monitor.every_steps is None or self.config.data.source == "stream":
            return None
        try:
            return HeldOutClips(self.config.data, self.config.model, self.monitor)
        except DatasetError as error:
            logger.warning(
                "No validation on held-out clips: %s Set monitor.split, or monitor.every_steps=none.", error
            )
            return None

    @torch.no_grad()
    def _validate(self, model: CavMaeSync, step: int) -> None:
        if self.held_out is None:
            return
        model.eval()
        try:
            self._record(dataclasses.asdict(self.held_out.validate(model, self.device)), step)
            if self.monitor.num_images:
                self._draw(reconstructions(self.held_out.reconstruct(model, self.device)), step)
        finally:
            model.train()

    def _record(self, metrics: Mapping[str, float], step: int) -> None:
        with self.validations.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        if self.events:
            self.events.numbers("validation", metrics, step)

    def _draw(self, png: bytes, step: int) -> None:
        folder = self.run_dir / RECONSTRUCTIONS_NAME
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"step-{step:06d}.png", png)
        if self.events:
            self.events.picture("reconstructions", png, step)


@contextmanager
def unless_disk_is_full(when: str) -> Iterator[None]:
    """What is written for people to look at does not end a run."""
    try:
        yield
    except OSError as error:
        logger.warning("The monitor cannot write at %s: %s. The run goes on.", when, error)


def _without_step(metrics: StepMetrics) -> dict[str, float]:
    return {name: value for name, value in dataclasses.asdict(metrics).items() if name != "step"}
