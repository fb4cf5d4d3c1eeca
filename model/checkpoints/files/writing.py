"""Writes files that hold a model, whole or not at all: our safetensors, and the published layout."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from cavsync.errors import writing_output
from cavsync.model.checkpoints.files.records import METADATA_PREFIX, WEIGHTS_NAME


def write_checkpoint_file(path: Path, tensors: Mapping[str, Tensor], records: Mapping[str, Any]) -> Path:
    """Writes to `checkpoint_path(path)`, whole or not at all; returns that path."""
    target = checkpoint_path(path)
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {METADATA_PREFIX + name: json.dumps(record) for name, record in records.items()}
    metadata["format"] = "pt"  # whose tensors they are, as transformers asks
    with writing_output(target, SafetensorError), _unfinished(target) as unfinished:
        save_file(content, unfinished, metadata)
    return target


def write_official(path: Path, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Writes tensors in upstream's layout, whole or not at all; `prefix` goes before every name."""
    content = {prefix + name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # On a full disk torch reports only that its file is shorter than it should be.
    with writing_output(path, RuntimeError), _unfinished(path) as unfinished:
        torch.save(content, unfinished)


def checkpoint_path(path: Path) -> Path:
    """Where `write_checkpoint_file` writes: a `.safetensors` file, or `model.safetensors` in the folder `path`."""
    return path if path.suffix == ".safetensors" else path / WEIGHTS_NAME


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A file beside `target` that replaces it once it is written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    try:
        unfinished.touch()
        usual_mode = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(usual_mode)  # safetensors leaves files that nobody else may read
        os.replace(unfinished, target)
    finally:
        with suppress(OSError):  # as where its folder is none
            unfinished.unlink()


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """A folder on the disk of `beside`, for what is to become `beside`."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside.parent, prefix=f".{beside.name}.") as folder:
        yield Path(folder)
