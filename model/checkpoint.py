"""Models to files and back: every tensor of a file must be one of the model's, and the other way round."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import ModelConfig
from cavsync.model.errors import CheckpointError
from cavsync.model.official import infer_fields, official_state_dict
from cavsync.model.positions import position_table
from cavsync.model.stored import CONFIG_KEY, WEIGHTS_NAME, Stored, read_stored

__all__ = ["CheckpointError", "load_model", "save_model"]

# The tables of upstream's two repositories differ by 1.5e-6; a trained one by far more.
POSITION_TOLERANCE = 1e-4


def save_model(model: CavMaeSync, path: Path | str) -> Path:
    """Writes a `.safetensors` file, or `model.safetensors` in the folder `path`; returns the file."""
    path = Path(path)
    target = path if path.suffix == ".safetensors" else path / WEIGHTS_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    unfinished = target.with_suffix(".unfinished")
    save_file(tensors, unfinished, metadata={CONFIG_KEY: json.dumps(asdict(model.config))})
    os.replace(unfinished, target)
    return target


def load_model(path: Path | str, **overrides: Any) -> CavMaeSync:
    """The model stored at `path`, in float32 and eval mode.

    `overrides` are fields of `ModelConfig`. Published files do not tell `num_heads`, `decoder_num_heads` and
    `norm_pix`: these are the released values unless overridden. Another `audio_rows` or `image_size` gets new
    position tables. Raises CheckpointError if any tensor is missing, unexpected or misshapen.
    """
    path = Path(path)
    _check_overrides(overrides)
    stored = read_stored(path)
    found, config = _configs(path, stored, overrides)
    _require_same(path, stored.tensors, _expected(found, official=stored.fields is None))
    tensors = stored.tensors | _moved_positions(path, stored.tensors, found, config)
    model = _skeleton(config)
    # A copy, so that no two parameters share memory if they did in the file.
    own = {name: tensors[name].to(torch.float32, copy=True) for name in model.state_dict()}
    model.load_state_dict(own, assign=True)
    return model.eval()


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(ModelConfig)]
    for name in overrides:
        if name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0)[0]
            raise ValueError(f"ModelConfig has no field {name!r}; did you mean {nearest!r}?")


def _configs(path: Path, stored: Stored, overrides: dict[str, Any]) -> tuple[ModelConfig, ModelConfig]:
    """The configuration at the sizes of the file, and at the sizes asked for."""
    try:
        filed = infer_fields(stored.tensors) if stored.fields is None else stored.fields
        config = ModelConfig(**(filed | overrides))
        sizes = {name: filed[name] for name in ("audio_rows", "image_size")}
        return replace(config, **sizes), config
    except (KeyError, TypeError, ValueError) as error:
        hint = "; published files do not tell it, pass it to load_model" if "num_heads" in str(error) else ""
        raise CheckpointError(f"{path} gives no valid configuration: {error}{hint}") from error


def _skeleton(config: ModelConfig) -> CavMaeSync:
    """The model without memory or random numbers behind it."""
    with torch.device("meta"):
        return CavMaeSync(config)


def _expected(config: ModelConfig, official: bool) -> dict[str, Tensor]:
    model = _skeleton(config)
    return official_state_dict(model) if official else model.state_dict()


def _require_same(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    misshapen = [
        f"{name} is {_describe(found[name])} and should be {_describe(tensor)}"
        for name, tensor in expected.items()
        if name in found and _describe(found[name]) != _describe(tensor)
    ]
    problems = [
        _summary("missing", [name for name in expected if name not in found]),
        _summary("unexpected", [name for name in found if name not in expected]),
        _summary("misshapen", misshapen),
    ]
    if any(problems):
        raise CheckpointError(
            f"{path} does not hold the tensors of its model: {'; '.join(filter(None, problems))}. "
            "The file is damaged, of another model, or needs an override such as num_registers=4."
        )


def _describe(tensor: Tensor) -> str:
    """Shape, and what else would keep a tensor from being a float32 parameter."""
    shape = str(tuple(tensor.shape))
    dense_float = tensor.is_floating_point() and tensor.layout == torch.strided
    return shape if dense_float else f"{shape} {tensor.dtype} {tensor.layout}"


def _summary(problem: str, names: list[str]) -> str:
    """The first few names and the number of all; empty if there is none."""
    if not names:
        return ""
    return f"{len(names)} {problem} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _moved_positions(
    path: Path, tensors: Mapping[str, Tensor], found: ModelConfig, config: ModelConfig
) -> dict[str, Tensor]:
    """New tables for the modalities whose grid the overrides change."""
    grids = {"a": (found.audio_grid, config.audio_grid), "v": (found.image_grid, config.image_grid)}
    moved = {}
    for modality, (old, new) in grids.items():
        for name in (f"pos_embed_{modality}", f"decoder_pos_embed_{modality}") if old != new else ():
            table = tensors[name].float()
            if not table.allclose(position_table(table.shape[-1], old), atol=POSITION_TOLERANCE):
                raise CheckpointError(f"{path} has trained positions ({name}), which fit {old} patches only")
            moved[name] = position_table(table.shape[-1], new)
    return moved
