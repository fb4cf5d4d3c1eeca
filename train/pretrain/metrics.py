"""What a run says of itself: before the first step, after each one, at its end; and who may listen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.engine.metrics import Pace, RunResult
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.step import Losses


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known before the first step."""

    run_dir: Path
    preset: str
    dataset: str
    num_clips: int
    num_parameters: int  # those that train
    num_steps: int
    steps_done: int  # more than 0 on resume
    start: str  # what the weights of step 0 were
    batch_size: int  # over all ranks
    num_ranks: int
    device: str
    precision: str
    stored_frame: tuple[int, int]  # height and width of the dataset's pictures
    image_size: int  # resized to this where it differs


@dataclass(frozen=True, kw_only=True)
class StepMetrics(Pace, Losses):
    """One step of pretraining."""


@dataclass(frozen=True, kw_only=True)
class PretrainResult(RunResult):
    """How a call of `pretrain` ended."""

    last: StepMetrics | None  # None when no step was left to do


class TrainerCallback(Protocol):
    """Looks at a run without changing it, in the first rank only; the other ranks wait meanwhile.

    It may call the model under `torch.no_grad()`, and leaves it in training mode. Training draws nothing from
    torch's generators, so an observer may.
    """

    def started(self, facts: RunFacts, config: PretrainConfig, model: CavMaeSync) -> None:
        """Before the first step; `config` is the resolved one, `model` stands on its device."""

    def stepped(self, metrics: StepMetrics, model: CavMaeSync, batch: Mapping[str, Any]) -> None:
        """After each step; `batch` is this rank's part as the loader gave it: a `Pair` with a first axis."""

    def ended(self, result: PretrainResult, model: CavMaeSync) -> None:
        """After the last step, complete or stopped; the last checkpoint is on disk."""
