"""The configuration that every training has: frozen records, checked before the first step."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from cavsync.errors import CavsyncError
from cavsync.train.engine.tracking.tracker import TrackerName

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Precision = Literal["float32", "bfloat16", "float16"]
Compile = bool | Literal["auto", "reduce-overhead"]

# Fields, and groups of fields, that do not change what a run computes: `--resume` accepts new values.
FREE_ON_RESUME = (
    "data.path",
    "data.num_workers",
    "data.check_crc",
    "micro_batch",
    "activation_checkpointing",
    "log_every_steps",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "compile",
    "monitor",
)
# The length of a run: `--resume` accepts new values too, which change the learning rate as `optimizer.lengthened` says.
LENGTH_FIELDS = ("num_steps", "num_epochs", "average_epochs")


class ConfigError(CavsyncError, ValueError):
    """A configuration that contradicts itself or names something unknown; the message says the way out."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam and its learning rate at the top of the schedule."""

    name: Literal["adam", "adamw"] = "adam"
    """"adam" adds weight decay to the gradient (L2), "adamw" shrinks the weights directly."""
    lr: float
    """Highest learning rate of the schedule."""
    betas: tuple[float, float]
    """Decay of the running means of the gradient and of its square."""
    weight_decay: float = 0.0
    """Strength of the decay."""
    decay: Literal["all", "matrices"] = "all"
    """Which parameters decay: "all", or "matrices", which leaves out the vectors: norms, biases and learned tokens."""
    clip_grad_norm: float | None = None
    """Gradients above this norm are scaled down to it; None never does."""

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr={self.lr} must be positive.")
        require(all(0 <= beta < 1 for beta in self.betas), f"betas={self.betas} must lie in [0, 1).")
        require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} is negative.")
        norm = self.clip_grad_norm
        require(norm is None or norm > 0, f"clip_grad_norm={norm} must be positive; none switches it off.")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run, as a fraction of `optimizer.lr`."""

    name: Literal["cosine", "multistep"] = "cosine"
    """"cosine" falls by step, "multistep" by epoch."""
    warmup_fraction: float = 0.0
    """Fraction of all steps that climbs linearly to the highest rate."""
    floor_ratio: float = 0.0
    """Where the cosine ends, as a ratio to the highest rate."""
    milestones: tuple[int, ...] = ()
    """Completed epochs after which the multistep rate is multiplied by `gamma`."""
    gamma: float = 0.5
    """Factor at each milestone."""

    def __post_init__(self) -> None:
        for name in ("warmup_fraction", "floor_ratio"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name}={value} must lie in [0, 1].")
        steps = self.milestones
        require(
            (self.name == "multistep") == bool(steps),
            f"schedule {self.name!r} with milestones={steps} contradict: multistep needs milestones, cosine has none.",
        )
        require(list(steps) == sorted(set(steps)), f"milestones={steps} must ascend.")


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """What a run writes to be watched by; it does not change what is computed."""

    tracker: tuple[TrackerName, ...] | None = ("tensorboard",)
    """Where metrics, validations, images and the configuration go besides the run folder: tensorboard, trackio, wandb,
    mlflow, or several with commas; none goes nowhere."""
    project: str = "cavsync"
    """Project of the run in trackio and wandb, experiment in mlflow."""
    curves: bool = True
    """Draw curves.png when the run ends."""

    def __post_init__(self) -> None:
        names = self.trackers
        require(len(set(names)) == len(names), f"monitor.tracker={','.join(names)} names a tracker twice.")
        require(bool(self.project), "monitor.project is empty; give a name, such as cavsync.")

    @property
    def trackers(self) -> tuple[TrackerName, ...]:
        """`tracker`, empty for none."""
        return self.tracker or ()


# Of the names of figures of the moving average of the weights, beside those of the weights.
AVERAGED_PREFIX = "ema_"


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """The exponential moving average of the weights, kept and validated beside them."""

    momentum: float | None = None
    """Fraction of the average that stays at each step, the rest comes from the weights, such as 0.999; none keeps no
    average."""

    def __post_init__(self) -> None:
        momentum = self.momentum
        require(
            momentum is None or 0 <= momentum <= 1,
            f"ema.momentum={momentum} must lie in [0, 1]; none keeps no average.",
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The fields that every training has."""

    preset: str
    """Name of the preset it started from."""
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    batch_size: int
    """Clips in a step, over all processes."""
    precision: Precision = "float32"
    """Type that matrix products compute in; weights, losses and the optimizer stay float32."""
    compile: Compile = "auto"
    """Compile the model with torch.compile: the first step takes long, the others less time. "auto" compiles a
    run of 1000 steps or more on a GPU, but no probe on features that are kept in memory. "reduce-overhead" also records
    what a GPU computes as CUDA graphs, for steps so short that starting their kernels takes longer; unproven there."""
    seed: int = 0
    """Decides initial weights, order of clips, frames, masks, mixtures and augmentation."""
    log_every_steps: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every_steps: int = 1000
    """Steps between two checkpoints; the last step always writes one."""
    keep_checkpoints: int | None = 3
    """How many of the newest stay on disk; None keeps all."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def __post_init__(self) -> None:
        self.require_positive("batch_size", "log_every_steps", "checkpoint_every_steps", "keep_checkpoints")
        require(self.seed >= 0, f"seed={self.seed} is negative.")

    def total_steps(self, num_clips: int) -> int:
        """Optimizer steps of the whole run on `num_clips` clips."""
        raise NotImplementedError

    def require_positive(self, *names: str) -> None:
        """ConfigError where one of these fields is below 1; None is allowed."""
        for name in names:
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name}={value} must be at least 1.")


def as_dict(config: "DataclassInstance") -> dict[str, Any]:
    """The record in JSON's types: what run folders and checkpoints store."""
    content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return content


def from_dict(kind: type[T], content: Mapping[str, Any]) -> T:
    """The record that `as_dict` wrote; a field that it lacks has its default.

    Raises ConfigError for a field that `kind` has not, or that is missing and has no default.
    """
    hints = get_type_hints(kind)
    unknown = [name for name in content if name not in hints]
    require(not unknown, f"{kind.__name__} has no field {', '.join(unknown)}.")
    values = {name: _restored(hints[name], value) for name, value in content.items()}
    try:
        return kind(**values)
    except TypeError as error:  # a field is missing
        raise ConfigError(f"{kind.__name__}: {error}") from error


def differing_fields(stored: dict[str, Any], current: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (stored value, current value), for every field that is not the same."""
    before, after = _flat(stored), _flat(current)
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def is_free_on_resume(name: str) -> bool:
    """Whether the dotted field `name` may change when a run is resumed."""
    free = (*FREE_ON_RESUME, *LENGTH_FIELDS)
    return name in free or name.partition(".")[0] in free


def _restored(hint: Any, value: Any) -> Any:
    if isinstance(value, list):  # JSON has no tuples
        return tuple(_restored(None, item) for item in value)
    return from_dict(hint, value) if dataclasses.is_dataclass(hint) and isinstance(hint, type) else value


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def published_adam(lr: float) -> OptimizerConfig:
    """CAV-MAE's optimizer, which the fork kept: Adam with L2 decay, and no clipping."""
    return OptimizerConfig(name="adam", lr=lr, betas=(0.95, 0.999), weight_decay=5e-7, decay="all")
