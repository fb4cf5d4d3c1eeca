"""The mean of a model's weights over a range of epochs that is fixed before the run."""

from typing import Any

import torch
from torch import nn


class WeightAverage:
    """The plain mean of what it was given; empty until the first epoch of `epochs`, (first, last) and both in it."""

    def __init__(self, epochs: tuple[int, int] | None) -> None:
        self.epochs, self.count = epochs, 0
        self.weights: dict[str, torch.Tensor] = {}

    def after_epoch(self, epoch: int, model: nn.Module) -> None:
        """Takes the weights in where `epoch`, counted from 1, is in the range."""
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
