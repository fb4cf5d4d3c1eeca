"""Export in the published layout: the file is read back and its encoders are compared with the model's."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from torch import Tensor

from cavsync.model.checkpoints.checkpoint import AnyModel, check_file
from cavsync.model.checkpoints.files import read_checkpoint_file, write_official
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.checkpoints.parity import EncoderName, encode_with, largest_difference, require_near
from cavsync.model.classifier import CavMaeClassifier


def export_official(
    model: AnyModel, path: Path, prefix: str, tolerance: float
) -> tuple[Mapping[str, Tensor], dict[EncoderName, float]]:
    """Writes the file; returns its tensors and the largest difference of each encoder's outputs to `model`.

    The file is read back and compared first; above `tolerance` nothing is written and CheckpointError is raised.
    """
    tensors = official_state_dict(model)
    unchecked = path.with_name(f".{path.name}.unchecked")
    try:
        write_official(unchecked, tensors, prefix)
        again = _read(unchecked, prefix, model)
        differences = {
            name: largest_difference(model, name, encode_with(again, name)) for name in get_args(EncoderName)
        }
        require_near(path, differences, tolerance)
        os.replace(unchecked, path)
    finally:
        unchecked.unlink(missing_ok=True)
    return tensors, differences


def _read(path: Path, prefix: str, like: AnyModel) -> AnyModel:
    """The model in the file, with the configuration of `like`, which the layout does not hold."""
    file = read_checkpoint_file(path)
    tensors = {name.removeprefix(prefix): tensor for name, tensor in file.tensors.items()}
    classifier = asdict(like.classifier) if isinstance(like, CavMaeClassifier) else {}
    return check_file(replace(file, tensors=tensors), **asdict(like.config), **classifier).build()
