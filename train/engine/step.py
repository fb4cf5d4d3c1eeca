"""One optimizer step: the gradient of a batch, clipped and checked, then an update of the weights."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.atomic import write_atomically
from cavsync.train.engine.config import RunConfig
from cavsync.train.engine.device import keep_freed_memory
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import Losses, StepLosses
from cavsync.train.engine.optimizer import MovingAverage, build_optimizer, clip_gradients
from cavsync.train.engine.overlap.readback import FiniteCheck

L = TypeVar("L", bound=Losses)
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

    def after_update(self) -> None:
        """Called once the weights are updated, in every step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What training changes besides the weights, as entries of a checkpoint; empty where that is nothing."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores those entries from a checkpoint."""
        ...


@dataclass(frozen=True)
class CheckedStep(Generic[L]):
    """What the message on a step needs, should it turn out not to be finite."""

    step: int
    losses: StepLosses[L]
    keys: Sequence[str]  # of this rank's clips


class TrainStep(Generic[L]):
    """A model and its optimizer; calling it with this rank's part of a batch trains once.

    `model` is on `device` already, and `objective` computes its loss.

    A call queues its work on the device and does not wait for it, so on a GPU the host can run ahead. A step with a
    NaN or infinite loss changes no weight, for the device itself skips its update and all later ones; the host
    raises NonFiniteError at once on a CPU, on a GPU when it has queued the next step, or in `require_finite`.
    """

    def __init__(
        self,
        config: RunConfig,
        model: nn.Module,
        objective: Objective[L],
        device: torch.device,
        ranks: Ranks | None = None,
        steps_ahead: int | None = None,
    ) -> None:
        """The host may be `steps_ahead` of the device: by default a step on a GPU, none on a CPU."""
        self.config, self.model, self.objective = config, model, objective
        self.device, self.ranks = device, ranks or Ranks()
        keep_freed_memory(device)
        self.steps_ahead = int(device.type == "cuda") if steps_ahead is None else steps_ahead
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        momentum = config.ema.momentum
        self.ema = None if momentum is None else MovingAverage.of(model, momentum)
        self.optimizer = build_optimizer(config.optimizer, model)
        # Half precision has no range for small gradients; the scaler lifts them and skips steps that overflow.
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self._finite: FiniteCheck[CheckedStep[L]] = FiniteCheck(device)
        self.optimizer.register_step_pre_hook(self._skip_unless_finite)

    def __call__(self, batch: Mapping[str, Any], step: int, lr: float) -> StepLosses[L]:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        with self._explained_when_too_large(batch, step):
            values = self.objective.backward(batch, self.scaler.scale)
            self.scaler.unscale_(self.optimizer)
            values["grad_norm"] = clip_gradients(self.trained, self.config.optimizer.clip_grad_norm)
            losses = StepLosses(self.objective.losses, values)
            # A gradient that overflows in half precision is the scaler's to skip.
            checked = losses.stacked[:-1] if self.scaler.is_enabled() else losses.stacked
            self._finite.add(CheckedStep(step, losses, batch["key"]), checked)
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)
        self.objective.after_update()
        self._raise_failure(self.steps_ahead)
        return losses

    def require_finite(self) -> None:
        """Waits for the device; raises NonFiniteError where one of the steps was not finite."""
        self._raise_failure(0)

    def state_dict(self) -> dict[str, Any]:
        """All that training changes: weights and their moving average, the optimizer's means, the loss scale."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            **({} if self.ema is None else {"ema": self.ema.weights}),
            **self.objective.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_weights(state["ema"])
        self.objective.load_state_dict(state)

    def _skip_unless_finite(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """A fused optimizer skips its update, on the device, where its attribute `found_inf` is 1; so does a scaler."""
        overflow = getattr(optimizer, "found_inf", None) if self.scaler.is_enabled() else None
        failed = self._finite.failed
        optimizer.found_inf = failed if overflow is None else torch.maximum(failed, overflow)  # type: ignore[attr-defined]

    def _raise_failure(self, newest_left: int) -> None:
        """All ranks measured the same, so either all of them raise or none."""
        failed = self._finite.first_failure(newest_left)
        if failed is not None:
            all_keys = list(chain.from_iterable(self.ranks.gather_objects(list(failed.keys))))
            measured = failed.losses.by_name()
            self.ranks.fail(non_finite_error(measured, failed.step, all_keys, self.objective.lr_fields))

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
