"""The learning rate as a pure function of the step, so that the step alone restores it.

(timm's cosine starts its climb at a given rate, not at the rate of one step, and torch's LambdaLR keeps a state.)
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from operator import not_
from pathlib import Path

import torch
from torch import nn

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.config import OptimizerConfig, ScheduleConfig


def lr_ratio(schedule: ScheduleConfig, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """Ratio to the highest rate at `step`, the number of steps already done, of `num_steps`."""
    warmup_steps = int(schedule.warmup_fraction * num_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule.name == "multistep":
        epochs_done = step // steps_per_epoch
        return float(schedule.gamma ** sum(epochs_done >= milestone for milestone in schedule.milestones))
    progress = (step - warmup_steps) / (num_steps - warmup_steps)
    return schedule.floor_ratio + (1 - schedule.floor_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


MAX_KEYS_SHOWN = 8


class NonFiniteError(CavsyncError):
    """A loss or gradient that is no number; nothing was updated with it."""

    def __init__(self, message: str, keys: Sequence[str]) -> None:
        super().__init__(message)
        self.keys = list(keys)  # of the step's clips


@contextmanager
def keeping_clips_of_failed_step(path: Path) -> Iterator[None]:
    """Writes the clips of a step that is not finite to `path`; the message names some, and the file."""
    try:
        yield
    except NonFiniteError as error:
        write_atomically(path, json.dumps({"clips": error.keys}, indent=1).encode())
        raise NonFiniteError(f"{error} All its clips: {path}.", error.keys) from error


class OutOfMemoryError(CavsyncError):
    """A step that does not fit into the device's memory."""


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW over the parameters that train; fixed position tables are left alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    decays = [config.decay == "all" or id(parameter) in matrices for parameter in trained]
    groups = [
        {"params": list(compress(trained, decays)), "weight_decay": config.weight_decay},
        {"params": list(compress(trained, map(not_, decays))), "weight_decay": 0.0},
    ]
    family = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    # One fused pass over the weights takes a quarter of the time of one operation after another.
    filled = [group for group in groups if group["params"]]
    optimizer: torch.optim.Optimizer = family(filled, lr=config.lr, betas=config.betas, fused=True)
    return optimizer


def clip_gradients(trained: list[nn.Parameter], limit: float | None) -> torch.Tensor:
    """The norm of all gradients, which are then scaled down to `limit` where they exceed it."""
    norm = nn.utils.get_total_norm([one.grad for one in trained if one.grad is not None])
    if limit is not None:
        nn.utils.clip_grads_with_norm_(trained, limit, norm)
    return norm


def not_finite(
    measured: Mapping[str, float], step: int, keys: Sequence[str], rates: str = "optimizer.lr"
) -> NonFiniteError:
    """`rates` names the fields that a lower learning rate is set by."""
    parts = ", ".join(f"{name} {value:.6g}" for name, value in measured.items())
    more = f" and {len(keys) - MAX_KEYS_SHOWN} more" if len(keys) > MAX_KEYS_SHOWN else ""
    return NonFiniteError(
        f"Step {step} is not finite: {parts}. Its clips: {', '.join(keys[:MAX_KEYS_SHOWN])}{more}. Nothing was "
        f"updated with it. Try a lower {rates}, optimizer.clip_grad_norm=1 or precision=float32.",
        keys,
    )
