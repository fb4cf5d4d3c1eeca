"""Optimizer, learning rate, gradient clipping and averaging of weights.

The learning rate is a pure function of the step, so that the step alone restores it: timm's warm-up starts at a fixed rate,
ours at lr / warm-up steps, and torch's LambdaLR keeps a state.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from operator import not_
from typing import Any

import torch
from torch import nn

from cavsync.train.engine.config import OptimizerConfig, RunConfig, ScheduleConfig


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


def lengthened(config: RunConfig, steps_done: int, before: int, after: int, steps_per_epoch: int) -> str:
    """A sentence on the learning rate of a run that had `before` steps and has `after`, of which `steps_done` are done.

    A cosine is stretched over the new length, as if the run had been planned so; a multistep schedule is tied to epochs
    and stays as it is.
    """
    schedule, highest = config.schedule, config.optimizer.lr

    def lr(step: int, num_steps: int) -> str:
        return f"{highest * lr_ratio(schedule, step, num_steps, steps_per_epoch):.3g}"

    if steps_done == after:
        return "no step is left, and the learning rate is as it was"
    last = "" if steps_done == 0 else f", after {lr(steps_done - 1, before)} in step {steps_done}"
    course = (
        f"{lr(steps_done, after)} in step {steps_done + 1}{last}, and {lr(after - 1, after)} in step {after}"
    )
    if schedule.name == "cosine":
        return f"the cosine of the learning rate is stretched from {before} to {after} steps: {course}"
    ahead = [epoch for epoch in schedule.milestones if steps_done < epoch * steps_per_epoch < after]
    falls = (
        f"falls after epoch {', '.join(map(str, ahead))}"
        if ahead
        else "has passed its milestones and is constant"
    )
    return f"the multistep learning rate {falls}: {course}"


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


def epochs_in(averaged: Sequence[int] | None, epochs_done: int) -> range:
    """Of the `epochs_done` epochs those that lie in the range `averaged`, (first, last)."""
    first, last = averaged or (1, 0)
    return range(first, min(last, epochs_done) + 1)


class MovingAverage:
    """Weights that follow a model: after each step, `momentum` times themselves and the rest of the model's.

    `weights` maps the names of the model's parameters to float32 tensors that are changed in place.
    """

    def __init__(self, weights: dict[str, torch.Tensor], momentum: float) -> None:
        self.weights, self.momentum = weights, momentum

    @classmethod
    def of(cls, model: nn.Module, momentum: float) -> "MovingAverage":
        """Of the parameters of `model` that train, beginning with what they are."""
        trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
        return cls({name: one.detach().clone() for name, one in trained.items()}, momentum)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the weights towards those of `model`; nothing waits for the device."""
        of_model = dict(model.named_parameters())
        ends: list[torch.Tensor] = [of_model[name] for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), ends, 1 - self.momentum)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Within, `model` has these weights in place of its own; nothing is copied."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    def _swap(self, model: nn.Module) -> None:
        of_model = dict(model.named_parameters())
        for name, tensor in self.weights.items():
            parameter = of_model[name]
            self.weights[name], parameter.data = parameter.data, tensor


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
