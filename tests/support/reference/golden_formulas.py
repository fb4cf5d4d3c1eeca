"""Weights, inputs and masking noise that follow formulas, so that outputs of upstream's code need no weights stored."""

from typing import Any

import torch
from torch import Tensor

from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.config import ModelConfig
from cavsync.model.encoder import Encoder

STUDENT_PHASE, TEACHER_PHASE = 0.11, 1.11


def formula_weights(model: Encoder, phase: float = STUDENT_PHASE) -> dict[str, Tensor]:
    """Upstream's tensors for `model`: each tensor's formula depends on its index among the sorted names."""
    tensors = official_state_dict(model)
    return {
        name: tensors[name] if "pos_embed" in name else formula(name, index, tensors[name], phase)
        for index, name in enumerate(sorted(tensors))
    }


def formula(name: str, index: int, like: Tensor, phase: float = STUDENT_PHASE) -> Tensor:
    i = torch.arange(like.numel(), dtype=torch.float64)
    x = torch.sin(0.7 * i + 0.3 * index + phase)
    if ("norm" in name or name.startswith("mlp_head.0")) and name.endswith("weight"):
        x = 1 + 0.1 * x
    elif name.endswith("bias"):
        x = 0.05 * x
    elif name.endswith("weight") and like.ndim >= 2:
        fan = like.numel() / like.shape[0]
        x = x * (2 / fan) ** 0.5 * torch.cos(torch.remainder(0.013 * i * i, 6.283185307179586))
    else:
        x = 0.2 * x
    return x.float().reshape(like.shape)


def inputs(config: ModelConfig, num: int = 3) -> tuple[Tensor, Tensor]:
    i = torch.arange(num * config.audio_rows * 128, dtype=torch.float64)
    audio = torch.sin(0.0137 * i) + 0.5 * torch.sin(0.37 * i + 1)
    j = torch.arange(num * 3 * 224 * 224, dtype=torch.float64)
    image = torch.cos(0.0091 * j) + 0.5 * torch.sin(0.53 * j + 2)
    return audio.float().reshape(num, config.audio_rows, 128), image.float().reshape(num, 3, 224, 224)


def noise(num_patches: int, which: int) -> Tensor:
    n, patch = torch.meshgrid(torch.arange(3), torch.arange(num_patches), indexing="ij")
    x = torch.sin((1000.0 * n + patch).double() * 12.9898 + which * 78.233) * 43758.5453
    return (x - x.floor()).float()


def assert_matches(actual: Tensor, golden: dict[str, Any], atol: float = 1e-5) -> None:
    values = actual.detach().float().cpu().flatten()
    assert list(actual.shape) == golden["shape"]
    measured = {"first8": values[:8], "last4": values[-4:], "mean": values.mean(), "std": values.std()}
    for name in measured.keys() & golden.keys():
        expected = torch.tensor(golden[name], dtype=torch.float32)
        torch.testing.assert_close(measured[name], expected, atol=atol, rtol=0)
