"""Reads files that hold a model: our safetensors, the trainer's checkpoints, and the published `.pth` files.

The published layout holds tensors alone; what a reader needs besides lies in a record beside the file (records.py).
No file is trusted: pickles are read with `weights_only=True`, which runs nothing they contain.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cavsync.model.checkpoints.files.hub_path import fetched
from cavsync.model.checkpoints.files.records import (
    FOLDER_PREFIX,
    METADATA_PREFIX,
    RECORDS,
    WEIGHTS_NAME,
    read_folder_config,
    read_sidecar,
)
from cavsync.model.errors import CheckpointError

# How every file begins that torch.save writes: an archive, or from old versions a pickle.
TORCH_STARTS = (b"PK", b"\x80")
# Entries of a training checkpoint that record how the model was trained, and what its outputs are.
TRAINING_ENTRIES = ("step", "initial_weights", "position", "labels", "label_names", "task", "config")


@dataclass(frozen=True)
class CheckpointFile:
    """The content of a file: named tensors and the records beside them."""

    path: Path
    tensors: dict[str, Tensor]
    is_official: bool
    """Whether the file has upstream's layout, which stores no records; those below are then the sidecar's."""
    model_config: dict[str, Any] | None
    """Fields of the `ModelConfig`; None where nothing states them."""
    classifier_config: dict[str, Any] | None
    """Fields of the `ClassifierConfig`; None for a pretrained model, and where nothing states them."""
    inputs: dict[str, Any] | None
    """How a log-mel is normalised and cut, where that is stated apart from `training`."""
    training: dict[str, Any] | None
    """How the model was trained, where the file records it."""

    def records(self) -> dict[str, Any]:
        """What is stated besides the tensors, by the names in RECORDS."""
        return {name: getattr(self, name) for name in RECORDS}


def read_checkpoint_file(path: Path, *, averaged: bool = False) -> CheckpointFile:
    """Reads the file at `path`, or `model.safetensors` in the folder `path`; raises CheckpointError.

    With `averaged`, the moving average of the weights that a training checkpoint holds beside them.
    """
    path = fetched(path)
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        beside = sorted(entry.name for entry in file.parent.iterdir()) if file.parent.is_dir() else []
        there = f"there are {', '.join(beside[:8])}" if beside else "the folder is empty or not there"
        raise CheckpointError(f"{file} is not there; {there}. Give the path of a checkpoint.")
    try:
        if averaged:
            return _read_average(file)
        read = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
        return _with_sidecar(read) if read.is_official else read
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes make the readers raise anything; they can run nothing
        raise CheckpointError(
            f"{file} cannot be read as a checkpoint: {_reason(file, error)}. Fetch or write it again; "
            "safetensors, a training checkpoint or an official .pth file are expected."
        ) from error


def read_records(file: Path) -> dict[str, Any]:
    """What a checkpoint states besides its tensors, by the names in RECORDS, without reading the tensors.

    Empty for a file that states nothing, and for a damaged one, whose damage is reported where the tensors are read.
    """
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                stated = _metadata_records(opened.metadata() or {}) or read_folder_config(file) or {}
        else:
            content = _unpickled(file, mmap=True)
            stated = _training_records(content) if _is_training_checkpoint(content) else {}
    except Exception:  # noqa: BLE001 (damaged bytes make the readers raise anything)
        return {}
    stated = stated if stated.get("model_config") else read_sidecar(file) or {}
    return {name: stated[name] for name in RECORDS if isinstance(stated.get(name), dict)}


def _read_safetensors(file: Path) -> CheckpointFile:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no iterator)
    records = _metadata_records(metadata)
    return _checkpoint_file(file, tensors, records) if records else _without_records(file, tensors)


def _without_records(file: Path, tensors: dict[str, Tensor]) -> CheckpointFile:
    """Tensors alone: those of a folder for transformers, which its config.json describes, or of the published layout."""
    config = read_folder_config(file)
    is_folder = bool(tensors) and all(name.startswith(FOLDER_PREFIX) for name in tensors)
    if config is None and is_folder:
        raise CheckpointError(
            f"{file} holds the weights of a folder for transformers, and the config.json of that folder is not beside it: "
            "copy or export the whole folder."
        )
    names = {name: name.removeprefix(FOLDER_PREFIX) if is_folder else name for name in tensors}
    return _checkpoint_file(file, {names[name]: tensor for name, tensor in tensors.items()}, config or {})


def _metadata_records(metadata: Mapping[str, str]) -> dict[str, Any]:
    given = [name for name in RECORDS if METADATA_PREFIX + name in metadata]
    return {name: json.loads(metadata[METADATA_PREFIX + name]) for name in given}


def _read_pickle(file: Path) -> CheckpointFile:
    content = _unpickled(file)
    if not _is_training_checkpoint(content):
        return _checkpoint_file(file, content, {})
    return _checkpoint_file(file, content["model"], _training_records(content))


def _read_average(file: Path) -> CheckpointFile:
    """The parameters that train, averaged; the others, such as position tables, as they are."""
    content = {} if file.suffix == ".safetensors" else _unpickled(file)
    if not _is_training_checkpoint(content) or not isinstance(content.get("ema"), dict):
        raise CheckpointError(
            f"{file} holds no moving average of the weights: give a run that was trained with --set ema.momentum=0.999, "
            "or a checkpoint of it, such as RUN/checkpoints/last.pt."
        )
    records = _training_records(content)
    records["training"] = (records["training"] or {}) | {"weights": "their moving average, ema.momentum"}
    return _checkpoint_file(file, {**content["model"], **content["ema"]}, records)


def _unpickled(file: Path, *, mmap: bool = False) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols, on files that are then refused
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)


def _is_training_checkpoint(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("model"), dict)


def _training_records(content: Mapping[str, Any]) -> dict[str, Any]:
    training = {name: content[name] for name in TRAINING_ENTRIES if name in content}
    return {**content, "training": training or None}


def _with_sidecar(file: CheckpointFile) -> CheckpointFile:
    """A file in upstream's layout with what the record beside it states."""
    record = read_sidecar(file.path)
    if record is None:
        return file
    prefix = record.get("prefix") or ""
    tensors = {name.removeprefix(prefix): tensor for name, tensor in file.tensors.items()}
    return replace(_checkpoint_file(file.path, tensors, record), is_official=True)


def _checkpoint_file(file: Path, tensors: object, records: Mapping[str, Any]) -> CheckpointFile:
    given = {name: records.get(name) for name in RECORDS}
    for name, record in given.items():
        if not isinstance(record, dict | None):
            raise TypeError(f"its {name} is a {type(record).__name__} instead of named values")
    return CheckpointFile(file, _named_tensors(tensors), is_official=given["model_config"] is None, **given)


def _named_tensors(content: object) -> dict[str, Tensor]:
    """`content` as named tensors, without the prefix of nn.DataParallel."""
    if not isinstance(content, dict) or not content:
        raise TypeError(f"it holds a {type(content).__name__} instead of named tensors")
    strange = [
        name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if strange:
        raise TypeError(f"these entries are no named tensors: {strange[:5]}")
    wrapped = all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if wrapped else name: value for name, value in content.items()}


def _reason(file: Path, error: Exception) -> str:
    """The reason in one line; torch's own message would advise to unpickle what it refused."""
    with file.open("rb") as opened:
        start = opened.read(64).lstrip()
    if not start:
        return "it is empty"
    if start.startswith(b"<"):
        return "it is a web page, as a download gives that asks for a confirmation"
    if isinstance(error, TypeError | OSError | ValueError | SafetensorError):
        return str(error).partition("\n")[0].rstrip(".")
    if start.startswith(b"PK") and not isinstance(error, UnpicklingError):
        return "its archive is damaged, cut short, or no checkpoint's"
    if not start.startswith(TORCH_STARTS):
        return "it is no checkpoint: neither safetensors nor what torch.save writes"
    return "it is not made of tensors alone, and nothing else is ever unpickled"
