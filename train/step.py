"""One optimizer step: a batch in, its losses out, the model changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import Any

import torch
from torch import nn

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.errors import CavsyncError
from cavsync.train.config import OptimizerConfig, TrainConfig
from cavsync.train.data import normalise_images

MAX_KEYS_SHOWN = 8


class NonFiniteError(CavsyncError):
    """A loss or gradient that is no number; nothing was updated with it."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What one step measured; the parts are unweighted."""

    loss: float
    reconstruction_audio: float
    reconstruction_image: float
    contrastive: float
    accuracy: float  # share of the batch whose partner scores highest
    grad_norm: float  # before clipping


class TrainStep:
    """The model and its optimizer; calling it with a batch of `Pair`s trains once."""

    def __init__(self, config: TrainConfig, model: CavMaeSync, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = model.to(device).train()
        self._forward = torch.compile(self.model) if config.compile else self.model
        self._trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(config.optimizer, self.model)
        # Half precision has no range for small gradients; the scaler lifts them and skips steps that overflow.
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")

    def __call__(self, batch: dict[str, Any], step: int, lr: float) -> Losses:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._losses(batch)
        _require_finite(losses, step, batch["key"])
        torch.autograd.backward(self.scaler.scale(losses["loss"]))
        self.scaler.unscale_(self.optimizer)
        losses["grad_norm"] = self._clip_gradients()
        if not self.scaler.is_enabled():
            _require_finite(losses, step, batch["key"])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Losses(**_numbers(losses))

    def state_dict(self) -> dict[str, Any]:
        """All that training changes: weights, the optimizer's means, the loss scale."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _losses(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        audio, image, noise_audio, noise_image = (
            batch[name].to(self.device, non_blocking=True)
            for name in ("audio", "image", "noise_audio", "noise_image")
        )
        precision = getattr(torch, self.config.precision)
        with torch.autocast(self.device.type, precision, enabled=precision is not torch.float32):
            out = self._forward(audio, normalise_images(image), noise_audio, noise_image)
        return {
            "loss": out.loss,
            "reconstruction_audio": out.reconstruction_audio,
            "reconstruction_image": out.reconstruction_image,
            "contrastive": out.contrastive,
            "accuracy": out.contrastive_accuracy,
        }

    def _clip_gradients(self) -> torch.Tensor:
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.config.optimizer.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self._trained, self.config.optimizer.clip_grad_norm, norm)
        return norm


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


def _require_finite(losses: dict[str, torch.Tensor], step: int, keys: Sequence[str]) -> None:
    values = _numbers(losses)
    if all(math.isfinite(value) for value in values.values()):
        return
    parts = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
    more = f" and {len(keys) - MAX_KEYS_SHOWN} more" if len(keys) > MAX_KEYS_SHOWN else ""
    raise NonFiniteError(
        f"Step {step} is not finite: {parts}. Its clips: {', '.join(keys[:MAX_KEYS_SHOWN])}{more}. Nothing was "
        "updated with it. Try a lower optimizer.lr, optimizer.clip_grad_norm=1 or precision=float32."
    )


def _numbers(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """One transfer from the device for all of them."""
    values = torch.stack([value.detach().float() for value in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))
