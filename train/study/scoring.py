"""Scores a run of a study while it trains, by the metrics that the study fixed."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.data.pairs import ClipAllPairs
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.config import RunConfig
from cavsync.train.engine.metrics import RunFacts, RunResult, StepMetrics
from cavsync.train.engine.run_folder import drop_lines_after
from cavsync.train.evaluation.heatmaps.kept_object import MaskedClips
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.reporting.record import plain
from cavsync.train.study.definition import Study
from cavsync.train.study.folder import SCORES_NAME, SESSIONS_NAME
from cavsync.train.study.metrics import encode_split, measure


class ScoringCallback(TrainerCallback):
    """Writes scores.jsonl after the study's fractions of the run, and sessions.jsonl at its end."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def on_train_begin(self, facts: RunFacts, config: RunConfig, model: nn.Module) -> None:
        assert isinstance(config, PretrainConfig)
        self.run_dir, self.first_step = facts.run_dir, facts.steps_done
        self.steps = {max(1, round(fraction * facts.num_steps)) for fraction in self.study.score_at}
        data = replace(config.data, split=self.study.split, pairing="matched")
        self.clips = ClipAllPairs(replace(data, image_augmentation=False, audio_noise=False), config.model)
        self.masked = MaskedClips.of(self.clips) if "kept-object" in self.study.metrics else None
        drop_lines_after(self.run_dir / SCORES_NAME, facts.steps_done)
        self.began_cpu_s, self.began_s = time.process_time(), time.perf_counter()

    def on_step_end(self, metrics: StepMetrics[Any], model: nn.Module, batch: Mapping[str, Any]) -> None:
        if metrics.step not in self.steps:
            return
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        self._score(metrics.step, model)
        # Scoring is no part of the training's cost.
        self.began_cpu_s += time.process_time() - cpu_s
        self.began_s += time.perf_counter() - wall_s

    def on_train_end(self, result: RunResult, model: nn.Module) -> None:
        session = {
            "step": result.step,
            "steps": result.step - self.first_step,
            "cpu_s": round(time.process_time() - self.began_cpu_s, 2),
            "wall_s": round(time.perf_counter() - self.began_s, 2),
        }
        append_line(self.run_dir / SESSIONS_NAME, session)

    @torch.no_grad()
    def _score(self, step: int, model: nn.Module) -> None:
        assert isinstance(model, CavMaeSync)
        device = next(model.parameters()).device
        encoded = encode_split(model, self.clips, device, self.study.max_clips, self.masked)
        keys = sorted(encoded.embeddings.keys)
        line = {
            "step": step,
            "num_clips": len(keys),
            "clips_sha256": hashlib.sha256("\n".join(keys).encode()).hexdigest(),
            "scores": plain(measure(self.study.metrics, encoded)),
        }
        append_line(self.run_dir / SCORES_NAME, line)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
