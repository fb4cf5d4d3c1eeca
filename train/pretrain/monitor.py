"""Watching a pretraining run: TensorBoard, looks at held-out clips, reconstruction pictures, curves at its end.

tensorboard/               events: every logged number, every look, every picture
looks.jsonl                one line per look at held-out clips
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
from cavsync.train.engine.run_folder import forget_lines_after
from cavsync.train.engine.tensorboard import EventLog
from cavsync.train.pretrain.config import TrainConfig
from cavsync.train.pretrain.held_out import HeldOutClips
from cavsync.train.pretrain.metrics import PretrainResult, RunFacts, StepMetrics
from cavsync.train.pretrain.plots import reconstructions, run_curves

LOOKS_NAME, CURVES_NAME, PICTURES_NAME = "looks.jsonl", "curves.png", "reconstructions"

logger = logging.getLogger(__name__)


class Monitor:
    """An `TrainerCallback` that does what `config.watch` says."""

    def started(self, facts: RunFacts, config: TrainConfig, model: CavMaeSync) -> None:
        self.config, self.watch, self.run_dir = config, config.watch, facts.run_dir
        self.num_steps, self.device = facts.num_steps, next(model.parameters()).device
        self.looks = self.run_dir / LOOKS_NAME
        forget_lines_after(self.looks, facts.steps_done)
        self.events = EventLog(self.run_dir, facts.steps_done) if self.watch.tensorboard else None
        self.held_out = self._held_out()

    def stepped(self, metrics: StepMetrics, model: CavMaeSync, batch: Mapping[str, Any]) -> None:
        with unless_disk_is_full(f"step {metrics.step}"):
            if self.events and metrics.step % self.config.log_every_steps == 0:
                self.events.numbers("train", _without_step(metrics), metrics.step)
            every = self.watch.every_steps
            if every and (metrics.step % every == 0 or metrics.step == self.num_steps):
                self._look(model, metrics.step)

    def ended(self, result: PretrainResult, model: CavMaeSync) -> None:
        with unless_disk_is_full("the end of the run"):
            if self.events:
                self.events.close()
            self._draw_curves(self.run_dir / "metrics.jsonl")

    def _draw_curves(self, metrics: Path) -> None:
        if self.watch.curves and metrics.exists():
            looks = pd.read_json(self.looks, lines=True) if self.looks.exists() else pd.DataFrame()
            write_atomically(self.run_dir / CURVES_NAME, run_curves(pd.read_json(metrics, lines=True), looks))

    def _held_out(self) -> HeldOutClips | None:
        """None, and a line of log, where the dataset has no such split or is not on a disk."""
        if self.watch.every_steps is None or self.config.data.source == "stream":
            return None
        try:
            return HeldOutClips(self.config.data, self.config.model, self.watch)
        except DatasetError as error:
            logger.warning("No look at held-out clips: %s Set watch.split, or watch.every_steps=none.", error)
            return None

    @torch.no_grad()
    def _look(self, model: CavMaeSync, step: int) -> None:
        if self.held_out is None:
            return
        model.eval()
        try:
            self._record(dataclasses.asdict(self.held_out.look(model, self.device)), step)
            if self.watch.num_pictures:
                self._draw(reconstructions(self.held_out.reconstruct(model, self.device)), step)
        finally:
            model.train()

    def _record(self, look: Mapping[str, float], step: int) -> None:
        with self.looks.open("a") as file:
            file.write(json.dumps({"step": step, **look}) + "\n")
        if self.events:
            self.events.numbers("held out", look, step)

    def _draw(self, png: bytes, step: int) -> None:
        folder = self.run_dir / PICTURES_NAME
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
        logger.warning("What was seen at %s is not written: %s. The run goes on.", when, error)


def _without_step(metrics: StepMetrics) -> dict[str, float]:
    return {name: value for name, value in dataclasses.asdict(metrics).items() if name != "step"}
