"""The loss of a classifier on labelled clips."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cavsync.model.classifier import CavMaeClassifier
from cavsync.train.choices import LabelTask
from cavsync.train.engine.device import autocast, begin_step, compile_options
from cavsync.train.engine.metrics import Losses
from cavsync.train.engine.optimizer import scale_group
from cavsync.train.engine.step import TrainStep
from cavsync.train.evaluation.classification.predict import INPUTS, describe
from cavsync.train.finetune.config import FinetuneConfig


class FinetuneObjective:
    """The loss of a classifier that is on `device`, for batches of `LabelledItem`s."""

    losses, lr_fields = Losses, "optimizer.lr or head_lr_factor"

    def __init__(
        self, config: FinetuneConfig, task: LabelTask, model: CavMaeClassifier, device: torch.device
    ) -> None:
        self.config, self.task, self.model, self.device = config, task, model, device
        options = compile_options(config.compile)
        self._forward = self._logits if options is None else torch.compile(self._logits, **options)

    def backward(self, batch: Mapping[str, Any], scaled: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Adds the gradient of the `scaled` loss; returns the loss, a scalar, detached and not scaled."""
        begin_step(self.config.compile)
        inputs = {name: batch[name].to(self.device, non_blocking=True) for name in INPUTS if name in batch}
        with autocast(self.device, self.config.precision):
            logits = self._forward(inputs)
        loss = class_loss(logits.float(), batch["target"].to(self.device), self.task)
        torch.autograd.backward(scaled(loss))
        return {"loss": loss.detach()}

    def memory_advice(self, batch: Mapping[str, Any]) -> str:
        size = self.config.batch_size
        num_frames = next(len(batch[name][0]) for name in INPUTS if name in batch)
        return (
            f"batch_size={size} clips of {num_frames} frames each. Try, in this order: --set precision=bfloat16, "
            f"frames_per_clip={max(1, num_frames // 2)}, batch_size={max(1, size // 2)}; a probe also "
            "cache_features=true."
        )

    def after_update(self) -> None:
        """Nothing: the weights alone are trained."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing is restored besides the weights."""

    def _logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """(clips, classes): the mean over a clip's frames, or the one answer of an attention head."""
        vectors = inputs["vectors"] if "vectors" in inputs else describe(self.model, inputs)
        logits: Tensor = self.model.head(vectors).mean(dim=1)
        return logits


def finetune_step(
    config: FinetuneConfig, task: LabelTask, model: CavMaeClassifier, device: torch.device
) -> TrainStep[Losses]:
    """The step that trains `model`, which it moves to `device`."""
    model = model.to(device).train()
    step = TrainStep(config, model, FinetuneObjective(config, task, model, device), device)
    scale_group(step.optimizer, model.parameter_groups()["head"], config.head_lr_factor)
    return step


def class_loss(logits: Tensor, targets: Tensor, task: LabelTask) -> Tensor:
    """The scalar loss of `logits` and `targets`, both (clips, classes).

    Cross-entropy with soft targets, or binary cross-entropy averaged over clips and classes.
    """
    if task == "single-label":
        return functional.cross_entropy(logits, targets)
    return functional.binary_cross_entropy_with_logits(logits, targets)
