"""A callback of functions, for tests that observe a run or interfere with it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.config import RunConfig
from cavsync.train.engine.metrics import RunFacts, StepMetrics


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
