"""Optimizer, learning rate, gradient clipping and averaging of weights.

The learning rate is a pure function of the step, so that the step alone restores it: timm's warm-up starts at a fixed rate,
ours at lr / warm-up steps, and torch's LambdaLR keeps a state.
"""

import math
from itertools import compress
from operator import not_
from typing import Any

import torch
from torch import nn

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


def scale_group(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], factor: float) -> None:
    """Moves `parameters` into groups with a learning rate of `factor` times that of the others."""
    chosen = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        scaled = [parameter for parameter in group["params"] if id(parameter) in chosen]
        others = [parameter for parameter in group["params"] if id(parameter) not in chosen]
        if scaled and others:
            group["params"] = others
            optimizer.add_param_group({**group, "params": scaled, "lr_factor": factor})
        elif scaled:
            group["lr_factor"] = factor


class WeightAverage:
    """The mean of a model's weights after the epochs `epochs`, (first, last), both included; empty before the first.

    The range is fixed before the run.
    """

    def __init__(self, epochs: tuple[int, int] | None) -> None:
        self.epochs, self.count = epochs, 0
        self.weights: dict[str, torch.Tensor] = {}

    def after_epoch(self, epoch: int, model: nn.Module) -> None:
        """Adds the weights of `model` if `epoch`, counted from 1, is in the range."""
        if self.epochs is None or not self.epochs[0] <= epoch <= self.epochs[1]:
            return
        self.count += 1
        for name, tensor in model.state_dict().items():
            mean = self.weights.setdefault(name, torch.zeros_like(tensor))
            mean.add_(tensor - mean, alpha=1 / self.count)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.count = state["count"]
        self.weights = {name: tensor.to(device) for name, tensor in state["weights"].items()}
