"""A run of `cavsync train`, for reading: its configuration, its curves and its model, while it trains or afterwards."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cavsync.model.checkpoints.checkpoint import AnyModel, load_model
from cavsync.train.data.inputs import find_weights
from cavsync.train.engine.run_folder import CONFIG_NAME, METRICS_NAME, VALIDATION_NAME, RunError, read_lines


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path
    config: dict[str, Any]
    """The resolved configuration, nested as `cavsync config show` prints it."""

    @property
    def weights(self) -> Path:
        """The newest weights: of the end of the run, or else of its last checkpoint.

        Raises EvaluationError where the run has saved nothing yet.
        """
        return find_weights(self.path)

    def metrics(self) -> pd.DataFrame:
        """One row per logged step: losses, accuracy, learning rate, clips/s; empty before the first."""
        return read_lines(self.path / METRICS_NAME)

    def validation(self) -> pd.DataFrame:
        """One row per validation while training; empty where there was none."""
        return read_lines(self.path / VALIDATION_NAME)

    def load_model(self) -> AnyModel:
        """The model of `weights`, in float32 and eval mode."""
        return load_model(self.weights)


def open_run(path: Path | str) -> Run:
    """The run in a folder. Raises RunError where the folder holds none."""
    config = Path(path) / CONFIG_NAME
    if not config.is_file():
        raise RunError(
            f"{path} holds no run: {CONFIG_NAME} is not there. Give a folder that `cavsync train` made."
        )
    return Run(Path(path), json.loads(config.read_text()))
