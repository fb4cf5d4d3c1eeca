"""Export in the published layout, with a record beside it of what that layout cannot hold.

Both files are read back without anything else, and the model in them is compared with the one that was written.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from cavsync.errors import writing_output
from cavsync.model.checkpoints.checkpoint import AnyModel, Checkpoint, ModelSpec, open_checkpoint, records_of
from cavsync.model.checkpoints.export.parity import EncoderName, encode_with, largest_difference, require_near
from cavsync.model.checkpoints.files.records import sidecar_path, sidecar_text
from cavsync.model.checkpoints.files.writing import temporary_folder, write_official
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.errors import CheckpointError


def export_official(
    model: AnyModel,
    path: Path,
    prefix: str,
    tolerance: float,
    training: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> tuple[Mapping[str, Tensor], dict[EncoderName, float]]:
    """Writes the file and its record; returns its tensors and the largest difference of each encoder to `model`.

    Both are read back first; where the model read differs, above `tolerance` or in its configuration, nothing is
    written and CheckpointError is raised.
    """
    tensors = official_state_dict(model)
    records = {"prefix": prefix, **records_of(model, training, inputs)}
    with writing_output(path), temporary_folder(path) as folder:
        unchecked = folder / path.name
        write_official(unchecked, tensors, prefix)
        sidecar_path(unchecked).write_text(sidecar_text(unchecked, records))
        differences = _differences(model, open_checkpoint(unchecked), path)
        require_near(path, differences, tolerance)
        # In this order a record is never missing; one that is newer than its file is noticed by the sha256 in it.
        os.replace(sidecar_path(unchecked), sidecar_path(path))
        os.replace(unchecked, path)
    return tensors, differences


def _differences(model: AnyModel, written: Checkpoint, path: Path) -> dict[EncoderName, float]:
    """The largest difference of each encoder's outputs between `model` and the files that are to become `path`."""
    spec = ModelSpec(model.config, model.classifier if isinstance(model, CavMaeClassifier) else None)
    if written.requested != spec or written.assumed:
        raise CheckpointError(
            f"{path} was not written: its files are read back as another model than was written."
        )
    again = written.build()
    return {name: largest_difference(model, name, encode_with(again, name)) for name in get_args(EncoderName)}
