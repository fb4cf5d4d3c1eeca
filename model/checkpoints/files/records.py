"""The records of what a reader of a model's file needs besides the tensors, and those that lie in a file beside it.

A safetensors file and a training checkpoint hold their records. A file of tensors alone, in the published layout, has
FILE.json beside it, with the sha256 of FILE and the prefix of its tensors' names besides; weights of a folder for
transformers have its config.json.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cavsync.model.errors import CheckpointError

WEIGHTS_NAME = "model.safetensors"
# Entries of a training checkpoint, of our safetensors' metadata as JSON, of FILE.json; `inputs` is how a log-mel is normalised.
RECORDS = ("model_config", "classifier_config", "inputs", "training")
METADATA_PREFIX = "cavsync_"
# Of FILE.json.
FORMAT = "cavsync-checkpoint-record-1"
# How the names of all tensors begin in a folder for transformers, whose config.json holds the records.
FOLDER_PREFIX = "model."
# Of a folder that transformers loads (`checkpoint export --format transformers`).
FOLDER_CONFIG_NAME = "config.json"
MODEL_TYPE = "cavmae_sync"


def sidecar_path(weights: Path) -> Path:
    """Where the record of the file `weights` lies."""
    return weights.with_name(f"{weights.name}.json")


def sidecar_text(weights: Path, records: Mapping[str, Any]) -> str:
    """The content of the record of `weights`, which is written already."""
    return json.dumps({"format": FORMAT, "sha256": _sha256(weights), **records}, indent=1)


def read_sidecar(weights: Path) -> dict[str, Any] | None:
    """The record of `weights`; None where there is none. Raises CheckpointError for one of another file."""
    path = sidecar_path(weights)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. It states the configuration of {weights.name}: copy or export both again, "
            "or remove it and give the configuration with --set."
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None  # of another program
    if record.get("sha256") != _sha256(weights):
        raise CheckpointError(
            f"{path} was written for another file than {weights.name} is now: its sha256 differs. Copy or export both "
            "again, or remove the record and give the configuration with --set."
        )
    return record


def read_folder_config(weights: Path) -> dict[str, Any] | None:
    """What config.json states of the `weights` beside it; None where it is not of a folder for transformers."""
    path = weights.with_name(FOLDER_CONFIG_NAME)
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. It states the configuration of {weights.name}: copy or export the folder again."
        ) from error
    return config if isinstance(config, dict) and config.get("model_type") == MODEL_TYPE else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
