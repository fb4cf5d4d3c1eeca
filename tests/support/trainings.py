"""`cavsync train` on known shards with a model of which a step takes milliseconds, and a callback of functions."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from click.testing import Result
from support import command_line
from torch import nn

from cavsync.cli.train import command
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.config import RunConfig
from cavsync.train.engine.metrics import RunFacts, StepMetrics

MICRO = [
    *("model.audio_rows=32", "model.image_size=32", "model.embed_dim=16", "model.num_heads=2"),
    *("model.encoder_depth=1", "model.decoder_dim=16", "model.decoder_num_heads=2", "batch_size=2"),
]
NO_CURVES = "monitor.curves=false"


def run(app: typer.Typer, *arguments: str | Path) -> Result:
    return command_line.run(*arguments, app=app, env={"COLUMNS": "300"})


def train(*arguments: str | Path) -> Result:
    return run(command.app, *arguments, "--device", "cpu")


def events(*arguments: str | Path) -> list[dict[str, Any]]:
    """The JSON lines of a training that must succeed."""
    result = train(*arguments, "--json")
    assert result.exit_code == 0, result.output + str(result.exception)
    return [json.loads(line) for line in result.stdout.splitlines()]


def sets(*assignments: str) -> list[str | Path]:
    return [part for assignment in assignments for part in ("--set", assignment)]


def micro(*arguments: str | Path) -> list[str | Path]:
    """Two steps of two clips, unless `arguments` say otherwise; without curves, which take longer to draw than the steps."""
    options = ["pretrain", "--preset", "tiny", "--device", "cpu", "--steps", "2"]
    return [*options, *sets(*MICRO, NO_CURVES), *arguments]


class Calls(TrainerCallback):
    """Calls `on_start` with the facts of a run, and `on_step` with the metrics of each step."""

    def __init__(
        self,
        on_start: Callable[[Any], object] = lambda facts: None,
        on_step: Callable[[Any], object] = lambda metrics: None,
    ) -> None:
        self._on_start, self._on_step = on_start, on_step

    def on_train_begin(self, facts: RunFacts, config: RunConfig, model: nn.Module) -> None:
        self._on_start(facts)

    def on_step_end(self, metrics: StepMetrics[Any], model: nn.Module, batch: Mapping[str, Any]) -> None:
        self._on_step(metrics)
