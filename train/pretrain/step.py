"""One optimizer step: a batch in, its losses out, the model changed."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, compress
from operator import not_
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.pipeline.errors import CavsyncError
from cavsync.pipeline.storage.path import write_atomically
from cavsync.train.engine.config import OptimizerConfig, TrainConfig
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.objective import Objective

MAX_KEYS_SHOWN = 8


class NonFiniteError(CavsyncError):
    """A loss or gradient that is no number; nothing was updated with it."""

    def __init__(self, message: str, keys: Sequence[str]) -> None:
        super().__init__(message)
        self.keys = list(keys)  # of the step's clips


@contextmanager
def clips_kept_in(path: Path) -> Iterator[None]:
    """Writes the clips of a step that is not finite to `path`; the message names some, and the file."""
    try:
        yield
    except NonFiniteError as error:
        write_atomically(path, json.dumps({"clips": error.keys}, indent=1).encode())
        raise NonFiniteError(f"{error} All its clips: {path}.", error.keys) from error


class OutOfMemoryError(CavsyncError):
    """A step that does not fit into the device's memory."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What one step measured over all ranks; the parts are unweighted."""

    loss: float
    reconstruction_audio: float
    reconstruction_image: float
    contrastive: float
    accuracy: float  # share of the batch whose partner scores highest
    grad_norm: float  # before clipping


class TrainStep:
    """The model and its optimizer; calling it with this rank's part of a batch of `Pair`s trains once."""

    def __init__(
        self, config: TrainConfig, model: CavMaeSync, device: torch.device, ranks: Ranks | None = None
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


def _next_smaller(part: int, whole: int) -> int:
    """The largest part below `part` that divides `whole`; 1 where there is none."""
    return max((size for size in range(1, part) if whole % size == 0), default=1)


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


def numbers(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """One transfer from the device for all of them."""
    values = torch.stack([value.detach().float() for value in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))
