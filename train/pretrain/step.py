"""One optimizer step: a batch in, its losses out, the model changed."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.optimizer import OutOfMemoryError, build_optimizer, clip_gradients, not_finite
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What one step measured over all ranks; the parts are unweighted."""

    loss: float
    reconstruction_audio: float
    reconstruction_image: float
    contrastive: float
    accuracy: float  # fraction of the batch whose partner scores highest
    grad_norm: float  # before clipping


class TrainStep:
    """The model and its optimizer; calling it with this rank's part of a batch of `Pair`s trains once."""

    def __init__(
        self, config: PretrainConfig, model: CavMaeSync, device: torch.device, ranks: Ranks | None = None
    ) -> None:
        self.config, self.device, self.ranks = config, device, ranks or Ranks()
        self.model = model.to(device).train()
        self.optimizer = build_optimizer(config.optimizer, self.model)
        # Half precision has no range for small gradients; the scaler lifts them and skips steps that overflow.
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.objective = Objective(config, self.model, device, self.ranks)
        self._trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def __call__(self, batch: dict[str, Any], step: int, lr: float) -> Losses:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        with self._explained_when_too_large(step):
            losses = self.objective.backward(batch, self.scaler.scale)
            self.scaler.unscale_(self.optimizer)
            losses["grad_norm"] = clip_gradients(self._trained, self.config.optimizer.clip_grad_norm)
            measured = numbers(losses)
            self._require_finite(measured, step, batch["key"])
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return Losses(**measured)

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

    def _require_finite(self, measured: dict[str, float], step: int, keys: list[str]) -> None:
        """All ranks measured the same, so each of them raises or none."""
        # A gradient that overflows in half precision is the scaler's to skip.
        judged = [name for name in measured if name != "grad_norm" or not self.scaler.is_enabled()]
        if not all(math.isfinite(measured[name]) for name in judged):
            everyones = chain.from_iterable(self.ranks.gather_objects(list(keys)))
            self.ranks.fail(not_finite(measured, step, list(everyones)))

    @contextmanager
    def _explained_when_too_large(self, step: int) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            config = self.config
            mine = config.batch_size // self.ranks.count
            raise OutOfMemoryError(
                f"Step {step} does not fit into the memory of {self.device}: batch_size={config.batch_size}, "
                f"{mine} of it in this process, micro_batch={config.micro_batch}. Try, in this order: "
                f"--set micro_batch={_next_smaller(config.micro_batch or mine, mine)} (the same result in smaller "
                "parts), precision=bfloat16, activation_checkpointing=true, a smaller batch_size."
            ) from error


def _next_smaller(part: int, whole: int) -> int:
    """The largest part below `part` that divides `whole`; 1 where there is none."""
    return max((size for size in range(1, part) if whole % size == 0), default=1)


def numbers(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """One transfer from the device for all of them."""
    values = torch.stack([value.detach().float() for value in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))
