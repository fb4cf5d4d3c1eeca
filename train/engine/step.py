"""One optimizer step: the gradient of a batch, clipped and checked, then an update of the weights."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.config import RunConfig
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import Losses
from cavsync.train.engine.optimizer import build_optimizer, clip_gradients

L_co = TypeVar("L_co", bound=Losses, covariant=True)

MAX_KEYS_SHOWN = 8


class NonFiniteError(CavsyncError):
    """A loss or gradient that is NaN or infinite; no weight was updated with it."""

    def __init__(self, message: str, keys: Sequence[str]) -> None:
        super().__init__(message)
        self.keys = list(keys)  # of the step's clips


class OutOfMemoryError(CavsyncError):
    """A step that does not fit into the device's memory."""


class Objective(Protocol[L_co]):
    """The loss that a training minimises."""

    @property
    def losses(self) -> type[L_co]:
        """The record of a step."""
        ...

    @property
    def lr_fields(self) -> str:
        """The fields that set the learning rates, for messages."""
        ...

    def backward(self, batch: Mapping[str, Any], scaled: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Adds the gradient of the `scaled` loss of this rank's `batch`.

        Returns the loss and its parts, scalars: means over all ranks, detached and not scaled.
        """
        ...

    def memory_advice(self, batch: Mapping[str, Any]) -> str:
        """The sizes of a batch that does not fit into memory, and which fields to change."""
        ...


class TrainStep(Generic[L_co]):
    """A model and its optimizer; calling it with this rank's part of a batch trains once.

    `model` is on `device` already, and `objective` computes its loss.
    """

    def __init__(
        self,
        config: RunConfig,
        model: nn.Module,
        objective: Objective[L_co],
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.model, self.objective = config, model, objective
        self.device, self.ranks = device, ranks or Ranks()
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(config.optimizer, model)
        # Half precision has no range for small gradients; the scaler lifts them and skips steps that overflow.
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")

    def __call__(self, batch: Mapping[str, Any], step: int, lr: float) -> L_co:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        with self._explained_when_too_large(batch, step):
            losses = self.objective.backward(batch, self.scaler.scale)
            self.scaler.unscale_(self.optimizer)
            losses["grad_norm"] = clip_gradients(self.trained, self.config.optimizer.clip_grad_norm)
            # One transfer from the device for all of them.
            values = torch.stack([value.detach().float() for value in losses.values()]).tolist()
            measured = dict(zip(losses, values, strict=True))
            self._require_finite(measured, step, batch["key"])
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.objective.losses(**measured)

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

    def _require_finite(self, measured: Mapping[str, float], step: int, keys: Sequence[str]) -> None:
        """All ranks measured the same, so either all of them raise or none."""
        # A gradient that overflows in half precision is the scaler's to skip.
        checked = [name for name in measured if name != "grad_norm" or not self.scaler.is_enabled()]
        if not all(math.isfinite(measured[name]) for name in checked):
            all_keys = list(chain.from_iterable(self.ranks.gather_objects(list(keys))))
            self.ranks.fail(non_finite_error(measured, step, all_keys, self.objective.lr_fields))

    @contextmanager
    def _explained_when_too_large(self, batch: Mapping[str, Any], step: int) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"Step {step} does not fit into the memory of {self.device}: {self.objective.memory_advice(batch)}"
            ) from error


def non_finite_error(
    measured: Mapping[str, float], step: int, keys: Sequence[str], lr_fields: str
) -> NonFiniteError:
    """The error of a step with `measured` losses on the clips `keys`."""
    parts = ", ".join(f"{name} {value:.6g}" for name, value in measured.items())
    more = f" and {len(keys) - MAX_KEYS_SHOWN} more" if len(keys) > MAX_KEYS_SHOWN else ""
    return NonFiniteError(
        f"Step {step} is not finite: {parts}. Its clips: {', '.join(keys[:MAX_KEYS_SHOWN])}{more}. Nothing was "
        f"updated with it. Try a lower {lr_fields}, optimizer.clip_grad_norm=1 or precision=float32.",
        keys,
    )


@contextmanager
def keeping_clips_of_failed_step(path: Path) -> Iterator[None]:
    """Writes the clips of a step that is not finite to `path`; the message names some, and the file."""
    try:
        yield
    except NonFiniteError as error:
        write_atomically(path, json.dumps({"clips": error.keys}, indent=1).encode())
        raise NonFiniteError(f"{error} All its clips: {path}.", error.keys) from error
