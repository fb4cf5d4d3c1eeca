"""What a training run is: one frozen record, complete and checked before the first step."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cavsync.model.config import ModelConfig
from cavsync.pipeline.dataset.sampling import Alignment
from cavsync.pipeline.errors import CavsyncError
from cavsync.train.pretrain.config import WatchConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Pairing = Literal["matched", "other-clip"]
Precision = Literal["float32", "bfloat16", "float16"]
Negatives = Literal["global", "local"]
Source = Literal["index", "stream"]

# Fields that change how a run is carried out but not what it computes: `--resume` accepts new values.
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
    *(f"watch.{one.name}" for one in dataclasses.fields(WatchConfig)),
)


class ConfigError(CavsyncError, ValueError):
    """A configuration that contradicts itself or names something unknown; the message says the way out."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips are read, and what an item of them is."""

    path: str = "data/audioset"
    """Folder that `cavsync prepare` wrote; with source="stream" also a URL, such as https://, s3:// or gs://."""
    source: Source = "index"
    """"index" reads each clip where it lies on a disk; "stream" reads whole shards from front to back, from
    anywhere, and shuffles less."""
    shuffle_clips: int = 512
    """With source="stream": how many clips each process that decodes holds (about .5 MB each) to shuffle. A shard is
    read from its front once for each such handful, so few clips of large shards mean much reading."""
    split: str = "train"
    """Role ("train", "test") or name of a split in dataset.json."""
    alignment: Alignment = "time"
    """Which mel rows belong to a frame: by its presentation time, or by its number as in published weights."""
    num_frames: int | None = None
    """How many frames of a clip are used, spread over it; None is all that were prepared."""
    mel_mean: float | None = None
    """Subtracted from the log-mel; None takes the dataset's own, from dataset.json."""
    mel_std: float | None = None
    """Divides the log-mel; None takes the dataset's own."""
    pad_value: float | None = None
    """Log-mel of rows past a clip's end; None is the mean, that is 0 after normalisation."""
    pairing: Pairing = "matched"
    """"other-clip" gives each clip the audio of another fixed clip, at a random frame: a negative control."""
    image_augmentation: bool = False
    """Random resized crop (area 8-100 %, ratio .9-1.1) and horizontal flip."""
    audio_noise: bool = False
    """Uniform noise of random strength up to .1 on the normalised window, then a random roll in time."""
    num_workers: int = 0
    """Processes that decode; 0 decodes in the training process. The items do not depend on it."""
    check_crc: bool = False
    """Compare each clip's checksum at every read: slow, for a disk under suspicion."""

    def __post_init__(self) -> None:
        require(
            self.num_workers >= 0, f"num_workers={self.num_workers} is negative; 0 decodes in this process."
        )
        require(
            self.num_frames is None or self.num_frames >= 1,
            f"num_frames={self.num_frames} must be at least 1.",
        )
        require(self.shuffle_clips >= 1, f"shuffle_clips={self.shuffle_clips} must be at least 1.")
        require(
            self.source == "stream" or "://" not in self.path,
            f"path={self.path} is a URL, and source='index' reads each clip where it lies on a disk: set source=stream, "
            "or copy the dataset here.",
        )
        if self.source == "stream":
            require(
                self.pairing == "matched" and not self.check_crc,
                f"source='stream' with pairing={self.pairing!r} and check_crc={self.check_crc} contradict: a stream "
                "reaches no other clip and no checksum. Use source=index, or pairing=matched and check_crc=false.",
            )
        require(
            (self.mel_mean is None) == (self.mel_std is None),
            f"mel_mean={self.mel_mean} and mel_std={self.mel_std} contradict: give both, or neither to take "
            "the dataset's own.",
        )
        require(self.mel_std is None or self.mel_std > 0, f"mel_std={self.mel_std} must be positive.")


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
    """Which parameters decay; "matrices" spares vectors: norms, biases and learned tokens."""
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
    """The learning rate over the run, as a share of `OptimizerConfig.lr`."""

    name: Literal["cosine", "multistep"] = "cosine"
    """"cosine" falls by step, "multistep" by epoch."""
    warmup_share: float = 0.0
    """Part of all steps that climbs linearly to the highest rate."""
    floor_share: float = 0.0
    """Where the cosine ends, as a share of the highest rate."""
    milestones: tuple[int, ...] = ()
    """Completed epochs after which the multistep rate is multiplied by `gamma`."""
    gamma: float = 0.5
    """Factor at each milestone."""

    def __post_init__(self) -> None:
        for name in ("warmup_share", "floor_share"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"{name}={share} is a share: give a number from 0 to 1.")
        steps = self.milestones
        require(
            (self.name == "multistep") == bool(steps),
            f"schedule {self.name!r} with milestones={steps} contradict: multistep needs milestones, cosine has none.",
        )
        require(list(steps) == sorted(set(steps)), f"milestones={steps} must ascend.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A complete run. Exactly one of `num_steps` and `num_epochs` says how long it is."""

    preset: str
    """Name of the preset it started from."""
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    batch_size: int
    """Clips in a step, over all processes; each brings one random frame and its window."""
    micro_batch: int | None = None
    """Clips that go through the model at once in each process, for a batch that its memory cannot hold; None is
    all of them. The result is the same up to rounding, for one more pass of the encoders."""
    negatives: Negatives = "global"
    """Which clips a clip is told apart from: all of the batch, or, as upstream, those in its own process."""
    num_steps: int | None = None
    """Length in optimizer steps."""
    num_epochs: int | None = None
    """Length in passes over the clips; an incomplete last batch of a pass is left out."""
    precision: Precision = "float32"
    """Type that matrix products compute in; weights, losses and the optimizer stay float32."""
    compile: bool = False
    """Compile the model with torch.compile."""
    activation_checkpointing: bool = False
    """Compute each block again in the backward instead of keeping what it computed: less memory, a third more
    time."""
    initial_weights: str | None = None
    """What the run starts from, such as a checkpoint of ours, Sync's or CAV-MAE's, or
    timm:vit_base_patch16_224.mae; None starts from random weights."""
    seed: int = 0
    """Decides initial weights, order of clips, frames, masks and augmentation."""
    log_every_steps: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every_steps: int = 1000
    """Steps between two checkpoints; the last step always writes one."""
    keep_checkpoints: int | None = 3
    """How many of the newest stay on disk; None keeps all."""
    watch: WatchConfig = field(default_factory=WatchConfig)

    def __post_init__(self) -> None:
        require(
            (self.num_steps is None) != (self.num_epochs is None),
            f"num_steps={self.num_steps} and num_epochs={self.num_epochs} contradict: "
            "give one of them and set the other to none.",
        )
        for name in ("batch_size", "log_every_steps", "checkpoint_every_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("num_steps", "num_epochs", "keep_checkpoints", "micro_batch"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name}={value} must be at least 1.")
        self.batch_of_a_rank(1)
        require(self.seed >= 0, f"seed={self.seed} is negative.")

    def batch_of_a_rank(self, num_ranks: int) -> int:
        """Clips of each batch that one of `num_ranks` processes takes; ConfigError where it does not divide."""
        batch, micro = self.batch_size, self.micro_batch
        require(
            batch % num_ranks == 0,
            f"batch_size={batch} does not divide by {num_ranks} processes; the nearest that do are "
            f"{_multiples_around(batch, num_ranks)}.",
        )
        mine = batch // num_ranks
        require(
            micro is None or mine % micro == 0,
            f"micro_batch={micro} does not divide the {mine} clips of batch_size={batch} that each of {num_ranks} "
            f"process{'' if num_ranks == 1 else 'es'} takes; parts of equal size are needed.",
        )
        return mine

    def total_steps(self, num_clips: int) -> int:
        """Optimizer steps of the whole run on `num_clips` clips."""
        if self.num_steps is not None:
            return self.num_steps
        assert self.num_epochs is not None  # __post_init__ leaves exactly one
        return self.num_epochs * (num_clips // self.batch_size)


def _multiples_around(value: int, step: int) -> str:
    below = value // step * step
    return f"{below} and {below + step}" if below else str(step)


def as_dict(config: "DataclassInstance") -> dict[str, Any]:
    """The record in JSON's types: what run folders and checkpoints store."""
    content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return content


def differing_fields(stored: dict[str, Any], current: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (stored value, current value), for every field that is not the same."""
    before, after = _flat(stored), _flat(current)
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
