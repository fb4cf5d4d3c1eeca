"""What a run that learns classes says of itself: before the first step, after each, after epochs, at its end."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cavsync.train.data.config import LabelTask
from cavsync.train.engine.metrics import Pace, RunResult
from cavsync.train.engine.run_folder import with_nulls
from cavsync.train.evaluation.classification.metrics import Classification
from cavsync.train.finetune.config import FinetuneConfig
from cavsync.train.finetune.step import FinetuneLosses

HEADLINE = ("mean_average_precision", "auc", "d_prime", "top1", "top1_macro")


@dataclass(frozen=True, kw_only=True)
class FinetuneFacts:
    """What is known before the first step."""

    run_dir: Path
    preset: str
    initial_weights: Path
    dataset: str
    num_clips: int
    num_classes: int
    classes_without_clips: list[str]
    task: LabelTask
    head: str
    modality: str
    num_parameters: int  # those that train
    num_frozen: int
    num_steps: int
    steps_done: int  # more than 0 on resume
    batch_size: int
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class FinetuneMetrics(Pace, FinetuneLosses):
    """One step; `lr` is that of the encoders, the head's is `head_lr_factor` times it."""


@dataclass(frozen=True, kw_only=True)
class FinetuneResult(RunResult):
    """How a call of `finetune` ended."""

    scores: Classification | None  # of the resulting weights; None without a validation split


@dataclass(frozen=True)
class Listeners:
    """Who is told of a run as it goes."""

    started: Callable[[FinetuneFacts, FinetuneConfig], None] = lambda facts, config: None
    encoded: Callable[[int, int], None] = lambda done, total: None  # clips, where features are kept
    stepped: Callable[[FinetuneMetrics], None] = lambda metrics: None
    scored: Callable[[int, Classification], None] = lambda epoch, scores: None


UNHEARD = Listeners()


def headline(scores: Classification) -> dict[str, float]:
    """The figures without the classes."""
    content = dataclasses.asdict(scores)
    return {name: content[name] for name in HEADLINE}


def as_record(scores: Classification) -> dict[str, Any]:
    """All figures in JSON's types."""
    return {"num_clips": scores.num_clips, **with_nulls(headline(scores))} | {
        "without_positives": scores.without_positives,
        "classes": [dataclasses.asdict(one) for one in scores.classes],
    }
