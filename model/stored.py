"""Files that hold a model: our safetensors, the trainer's checkpoints, and the published `.pth` files.

No file is trusted: pickles are read with `weights_only=True`, which runs nothing they contain.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from cavsync.model.errors import CheckpointError
from cavsync.model.official import is_finetuned

WEIGHTS_NAME = "model.safetensors"
CONFIG_KEY = "cavsync_model_config"


@dataclass(frozen=True)
class Stored:
    """What a file holds."""

    tensors: dict[str, Tensor]
    fields: dict[str, Any] | None
    """Of the `ModelConfig`; None in upstream's layout, which stores none."""


def read_stored(path: Path) -> Stored:
    """What is at `path`, a file or a folder with `model.safetensors`; raises CheckpointError."""
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        beside = sorted(entry.name for entry in file.parent.iterdir()) if file.parent.is_dir() else []
        there = f"there are {', '.join(beside[:8])}" if beside else "the folder is empty or not there"
        raise CheckpointError(f"{file} is not there; {there}. Give the path of a checkpoint.")
    try:
        stored = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    except Exception as error:  # damaged bytes make the readers raise anything; they can run nothing
        raise _unreadable(file, error) from error
    if stored.fields is None and is_finetuned(stored.tensors):
        raise CheckpointError(f"{file} is a fine-tuned classifier without decoder; load a pretrained file")
    return stored


def _read_safetensors(file: Path) -> Stored:
    with safe_open(file, framework="pt") as opened:
        config = (opened.metadata() or {}).get(CONFIG_KEY)
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no iterator)
    return Stored(tensors, None if config is None else json.loads(config))


def _read_pickle(file: Path) -> Stored:
    content = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(content, dict) and {"model", "model_config"} <= content.keys():
        return Stored(_tensors(content["model"]), content["model_config"])
    return Stored(_tensors(content), None)


def _tensors(content: object) -> dict[str, Tensor]:
    """`content` as named tensors, without the prefix of nn.DataParallel."""
    if not isinstance(content, dict) or not content:
        raise TypeError(f"it holds a {type(content).__name__} instead of named tensors")
    strange = [name for name, value in content.items() if not _is_named_tensor(name, value)]
    if strange:
        raise TypeError(f"these entries are no named tensors: {strange[:5]}")
    wrapped = all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if wrapped else name: value for name, value in content.items()}


def _is_named_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    reason = str(error).partition("\n")[0]
    return CheckpointError(
        f"{file} cannot be read as a checkpoint: {reason or type(error).__name__}. "
        "Fetch or write it again; expected are safetensors, a training checkpoint or an official .pth file."
    )
