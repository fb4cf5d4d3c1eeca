"""Comparison of named tensors with those of a model: names, shapes and types."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cavsync.errors import first_of
from cavsync.model.errors import CheckpointError


def require_same(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError, naming the tensors of `path` that are missing, unexpected or misshapen."""
    problems = [
        summary("missing", [name for name in expected if name not in found]),
        summary("unexpected", [name for name in found if name not in expected]),
        summary("misshapen", misshapen(found, expected)),
    ]
    if any(problems):
        raise CheckpointError(
            f"{path} does not hold the tensors of its model: {'; '.join(filter(None, problems))}. "
            "The file is damaged, of another model, or needs an override such as num_registers=4."
        )


def misshapen(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """A sentence for each tensor of both whose shapes or types differ."""
    return [
        f"{name} is {_shape(found[name])} and should be {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in found and _shape(found[name]) != _shape(tensor)
    ]


def _shape(tensor: Tensor) -> str:
    """The shape, and whatever else keeps a tensor from being a float32 parameter."""
    shape = str(tuple(tensor.shape))
    if not tensor.is_floating_point() or tensor.layout != torch.strided:
        return f"{shape} {tensor.dtype} {tensor.layout}"
    # A few bytes can claim any shape by repeating themselves.
    is_whole = tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    return shape if is_whole else f"{shape} without its values"


def summary(what: str, names: Sequence[str]) -> str:
    """The number of `names` and the first of them; empty if there are none."""
    if not names:
        return ""
    return f"{len(names)} {what} ({first_of(names, 3)})"
