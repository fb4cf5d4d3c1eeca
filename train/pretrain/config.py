"""What of a run is watched while it trains; none of it changes what is computed."""

from dataclasses import dataclass, field
from typing import Literal

from cavsync.model.config import ModelConfig
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import MonitorConfig, OptimizerConfig, Precision, ScheduleConfig, require

Negatives = Literal["global", "local"]


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
    watch: MonitorConfig = field(default_factory=MonitorConfig)

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
