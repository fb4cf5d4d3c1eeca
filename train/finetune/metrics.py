"""Records of a run that trains a classifier."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from cavsync.train.choices import LabelTask
from cavsync.train.engine.metrics import RunFacts, RunResult
from cavsync.train.engine.run_folder import with_nulls
from cavsync.train.evaluation.classification.metrics import Classification

FIGURES = ("num_clips", "mean_average_precision", "auc", "d_prime", "top1", "top1_macro")


@dataclass(frozen=True, kw_only=True)
class FinetuneFacts(RunFacts):
    """A run that trains a classifier, before its first step."""

    num_classes: int
    classes_without_clips: list[str]
    task: LabelTask
    head: str
    modality: str
    num_frozen: int  # parameters


@dataclass(frozen=True, kw_only=True)
class FinetuneResult(RunResult):
    """The end of a call of `finetune`."""

    scores: Classification | None  # of the resulting weights; None without a validation split


def figures_of(scores: Classification) -> dict[str, float]:
    """The figures over all classes."""
    content = dataclasses.asdict(scores)
    return {name: content[name] for name in FIGURES}


def as_record(scores: Classification) -> dict[str, Any]:
    """All figures, of each class too, in JSON's types."""
    return with_nulls(figures_of(scores)) | {
        "without_positives": scores.without_positives,
        "classes": [dataclasses.asdict(one) for one in scores.classes],
    }
