"""A model into the published layout, and the proof that it answers the same once it is read from there."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from torch import Tensor

from cavsync.model.checkpoints.checkpoint import AnyModel, check_stored
from cavsync.model.checkpoints.files import read_stored, write_official
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.checkpoints.parity import EncoderName, encode_with, largest_difference, require_near
from cavsync.model.classifier import CavMaeClassifier


def export_official(
    model: AnyModel, path: Path, prefix: str, tolerance: float
) -> tuple[Mapping[str, Tensor], dict[EncoderName, float]]:
    """Writes the file; returns its tensors and, for each encoder, the largest difference to `model`.

    It is read back and compared first; if it differs by more than `tolerance`, nothing is written.
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
    """The model in the file; its configuration, which the layout does not hold, is that of `like`."""
    stored = read_stored(path)
    named = {name.removeprefix(prefix): tensor for name, tensor in stored.tensors.items()}
    classifier = asdict(like.classifier) if isinstance(like, CavMaeClassifier) else {}
    return check_stored(replace(stored, tensors=named), **asdict(like.config), **classifier).build()
