"""A run of `cavsync train`, for reading: its configuration, its curves and its model, while it trains or afterwards; and
which run a command takes where no checkpoint is given."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cavsync.model.checkpoints.checkpoint import AnyModel, load_model
from cavsync.model.checkpoints.files.checkpoint_file import read_records
from cavsync.train.data.inputs import find_weights, run_config, saved_weights
from cavsync.train.engine.run_folder import CONFIG_NAME, METRICS_NAME, VALIDATION_NAME, RunError, read_lines
from cavsync.train.errors import EvaluationError


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
    content = _config_of_run(config)
    if content is None:
        raise RunError(
            f"{path} holds no run: {CONFIG_NAME} is damaged, or not one that `cavsync train` wrote, as in an exported folder. "
            "Give the folder of a run; `cavsync.load_model` takes an exported one."
        )
    return Run(Path(path), content)


def _config_of_run(file: Path) -> dict[str, Any] | None:
    """The content of a config.json; None where `cavsync train` did not write it: exported folders have one too."""
    try:
        content = json.loads(file.read_text())
    except ValueError:
        return None
    return content if isinstance(content, dict) and "data" in content else None


@dataclass(frozen=True)
class ChosenCheckpoint:
    """The weights that a command takes of itself, and why."""

    weights: Path
    reason: str

    @property
    def sentence(self) -> str:
        """Its path, its step, what it is, and why it is taken."""
        return f"Checkpoint: {self.weights}, {description_of(self.weights)}: {self.reason}."


def description_of(weights: Path) -> str:
    """What a file of weights is, as far as it or its run folder says: "a pretrained model of preset tiny, step 1,000"."""
    config, record = run_config(weights) or {}, read_records(weights).get("training") or {}
    of_name = weights.resolve().stem.removeprefix("step-")
    step = record.get("step", int(of_name) if of_name.isdecimal() else None)
    kind = "a classifier" if "head" in config else "a pretrained model"
    preset = f" of preset {config['preset']}" if "preset" in config else ""
    at = "" if step is None else f", step {step:,}"
    unfinished = " of a run that is not complete" if weights.suffix == ".pt" else ""
    return f"{kind}{preset}{at}{unfinished}"


def newest_checkpoint(runs: Path, *, classifier: bool = False) -> ChosenCheckpoint:
    """The weights of the newest run under `runs` that has saved some; of those that trained a classifier with `classifier`.

    The newest is the one whose configuration was written last. Raises EvaluationError where there is none.
    """
    found = sorted(runs.glob(f"*/{CONFIG_NAME}"), key=lambda path: path.stat().st_mtime, reverse=True)
    contents = {path: _config_of_run(path) for path in found}
    configs = [
        path for path, content in contents.items() if content and ("head" in content or not classifier)
    ]
    kind, commands = (
        ("run that trained a classifier", "train probe` or `cavsync train finetune")
        if classifier
        else ("run", "train pretrain")
    )
    if not configs:
        raise EvaluationError(
            f"{runs} holds no {kind}: train one with `cavsync {commands}`, or give --checkpoint FILE."
        )
    folders = [path.parent for path in configs]
    number = next((at for at, folder in enumerate(folders) if saved_weights(folder)), 0)
    newer = f"; {', '.join(map(str, folders[:number]))} has saved nothing yet" if number else ""
    return ChosenCheckpoint(find_weights(folders[number]), f"the newest {kind} under {runs}{newer}")
