"""Named tensors: whether a file holds those of a model, all of them and no other."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cavsync.model.errors import CheckpointError


def require_same(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError, naming the tensors of `path` that are missing, unexpected or misshapen."""
    misshapen = [
        f"{name} is {describe(found[name])} and should be {describe(tensor)}"
        for name, tensor in expected.items()
        if name in found and describe(found[name]) != describe(tensor)
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


def describe(tensor: Tensor) -> str:
    """Shape, and what else would keep a tensor from being a float32 parameter."""
    shape = str(tuple(tensor.shape))
    if not tensor.is_floating_point() or tensor.layout != torch.strided:
        return f"{shape} {tensor.dtype} {tensor.layout}"
    # A few bytes can claim any shape by repeating themselves.
    is_whole = tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    return shape if is_whole else f"{shape} without its values"


def _summary(problem: str, names: list[str]) -> str:
    """The first few names and the number of all; empty if there is none."""
    if not names:
        return ""
    return f"{len(names)} {problem} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
