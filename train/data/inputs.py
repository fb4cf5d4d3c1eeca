"""How a checkpoint's inputs were normalised and aligned, and where its weights lie."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from cavsync.model.checkpoints.files import read_training_record
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.run_folder import CONFIG_NAME, WEIGHTS_NAME
from cavsync.train.errors import EvaluationError

# How published weights were fed: windows of the clip padded with raw zeros to 1024 rows, and one pair of
# statistics for AudioSet and VGGSound alike (upstream's loaders).
PUBLISHED_INPUTS = DataConfig(alignment="upstream", mel_mean=-5.081, mel_std=4.4849, pad_value=0.0)


def find_weights(checkpoint: Path) -> Path:
    """The file to load: `checkpoint` itself, or the newest weights of a run folder."""
    if checkpoint.is_file():
        return checkpoint
    if not checkpoint.is_dir():
        raise EvaluationError(f"{checkpoint} is not there: give a run folder or a checkpoint file.")
    for weights in (checkpoint / WEIGHTS_NAME, checkpoint / "checkpoints" / "last.pt"):
        if weights.is_file():
            return weights
    raise EvaluationError(
        f"{checkpoint} holds neither {WEIGHTS_NAME} nor checkpoints/last.pt: is it a run folder "
        "of `cavsync train`, and has the run saved anything yet?"
    )


def run_config(weights: Path) -> dict[str, Any] | None:
    """The configuration of the run that made `weights`: as the folder around them says, or else their own record.

    None where neither says, as with published files.
    """
    for folder in (weights.parent, weights.parent.parent):
        # A folder of the Hugging Face hub has a config.json too, of the model alone.
        if (folder / CONFIG_NAME).is_file():
            config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text())
            if "data" in config:
                return config
    recorded: dict[str, Any] = (read_training_record(weights) or {}).get("config", {})
    return recorded if "data" in recorded else None


def trained_inputs(weights: Path) -> DataConfig | None:
    """The data part of `run_config`."""
    config = run_config(weights)
    if config is None:
        return None
    # A run may be older than a field, which then has its default.
    known = [field.name for field in fields(DataConfig) if field.name in config["data"]]
    return DataConfig(**{name: config["data"][name] for name in known})


def inputs_of(weights: Path) -> DataConfig:
    """The inputs of the run that made the weights, else those of published weights."""
    return trained_inputs(weights) or PUBLISHED_INPUTS
