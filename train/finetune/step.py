"""One optimizer step of a classifier: a batch in, its loss out, the model changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cavsync.model.classifier import CavMaeClassifier
from cavsync.train.data.config import LabelTask
from cavsync.train.engine.device import autocast
from cavsync.train.engine.optimizer import OutOfMemoryError, build_optimizer, clip_gradients, not_finite
from cavsync.train.evaluation.classification.predict import INPUTS, describe
from cavsync.train.finetune.config import FinetuneConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneLosses:
    """What one step measured."""

    loss: float
    grad_norm: float  # before clipping


class FinetuneStep:
    """The classifier and its optimizer; calling it with a batch of `LabelledItem` items trains once."""

    def __init__(
        self, config: FinetuneConfig, task: LabelTask, model: CavMaeClassifier, device: torch.device
    ) -> None:
        self.config, self.task, self.device = config, task, device
        self.model = model.to(device).train()
        self._forward = torch.compile(self._logits) if config.compile else self._logits
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(config.optimizer, model)
        scale_group(self.optimizer, model.parameter_groups()["head"], config.head_lr_factor)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")

    def __call__(self, batch: dict[str, Any], step: int, lr: float) -> FinetuneLosses:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            return self._step(batch, step)
        except torch.OutOfMemoryError as error:
            raise self._too_large(batch, step) from error

    def _step(self, batch: dict[str, Any], step: int) -> FinetuneLosses:
        loss = self._loss(batch)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.trained, self.config.optimizer.clip_grad_norm)
        losses = FinetuneLosses(loss=loss.item(), grad_norm=norm.item())
        self._require_finite(losses, step, batch["key"])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return losses

    def _too_large(self, batch: dict[str, Any], step: int) -> OutOfMemoryError:
        num_frames = next(len(batch[name][0]) for name in INPUTS if name in batch)
        return OutOfMemoryError(
            f"Step {step} does not fit into the memory of {self.device}: batch_size={self.config.batch_size} clips of "
            f"{num_frames} frames each. Try, in this order: --set precision=bfloat16, frames_per_clip={max(1, num_frames // 2)}, "
            f"batch_size={max(1, self.config.batch_size // 2)}; a probe also cache_features=true."
        )

    def _require_finite(self, losses: FinetuneLosses, step: int, keys: Sequence[str]) -> None:
        # A gradient that overflows in half precision is the scaler's to skip.
        skipped = self.scaler.is_enabled()
        if math.isfinite(losses.loss) and (skipped or math.isfinite(losses.grad_norm)):
            return
        measured = {"loss": losses.loss, "gradient norm": losses.grad_norm}
        raise not_finite(measured, step, keys, rates="optimizer.lr or head_lr_factor")

    def state_dict(self) -> dict[str, Any]:
        """All that training changes: weights, the optimizer's means, the loss scale."""
        parts: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _loss(self, batch: dict[str, Any]) -> Tensor:
        with autocast(self.device, self.config.precision):
            logits = self._forward(batch)
        return class_loss(logits.float(), batch["target"].to(self.device), self.task)

    def _logits(self, batch: dict[str, Any]) -> Tensor:
        """(clips, classes): the mean over a clip's frames, or the one answer of an attention head."""
        given = {name: batch[name].to(self.device, non_blocking=True) for name in INPUTS if name in batch}
        vectors = given["vectors"] if "vectors" in given else describe(self.model, given)
        logits: Tensor = self.model.head(vectors).mean(dim=1)
        return logits


def class_loss(logits: Tensor, targets: Tensor, task: LabelTask) -> Tensor:
    """Cross-entropy with soft targets, or binary cross-entropy averaged over clips and classes."""
    if task == "single-label":
        return functional.cross_entropy(logits, targets)
    return functional.binary_cross_entropy_with_logits(logits, targets)


def scale_group(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], factor: float) -> None:
    """Gives `parameters` groups of their own, whose learning rate is `factor` times the others'."""
    chosen = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in chosen]
        others = [parameter for parameter in group["params"] if id(parameter) not in chosen]
        if own and others:
            group["params"] = others
            optimizer.add_param_group({**group, "params": own, "lr_factor": factor})
        elif own:
            group["lr_factor"] = factor
