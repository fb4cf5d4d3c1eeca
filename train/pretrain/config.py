"""The configuration of pretraining."""

from dataclasses import dataclass, field
from typing import Literal

from cavsync.model.config import ModelConfig, PriorityDirection, num_kept
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import MonitorConfig, RunConfig, require

Negatives = Literal["global", "local"] | int
PatchChoice = Literal["random", "top", "sampled", "bottom", "other-clip"]


@dataclass(frozen=True, kw_only=True)
class PretrainMonitorConfig(MonitorConfig):
    """How often, and on which clips, a pretraining run is validated."""

    every_steps: int | None = 1000
    """Steps between two validations on held-out clips; None never validates."""
    split: str = "test"
    """Split to validate on: "test" is all splits for testing, a name that one; a dataset without it is trained on
    without validation."""
    max_clips: int = 200
    """Held-out clips at the most; R@1 depends on it, so compare runs with the same number."""
    num_frames: int = 4
    """Frames of each of them, spread over the clip, each with its audio segment."""
    num_images: int = 4
    """Clips whose masked, predicted and original image and log-mel are drawn; 0 draws none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self.every_steps
        require(
            steps is None or steps >= 1,
            f"monitor.every_steps={steps} must be at least 1; none never validates.",
        )
        require(
            self.max_clips >= 2,
            f"monitor.max_clips={self.max_clips} must be at least 2: R@1 among one clip says nothing.",
        )
        require(self.num_frames >= 1, f"monitor.num_frames={self.num_frames} must be at least 1.")
        require(self.num_images >= 0, f"monitor.num_images={self.num_images} is negative; 0 draws none.")


@dataclass(frozen=True, kw_only=True)
class ContrastViewConfig:
    """The patches that the contrastive loss sees: those of the reconstruction, or a view of its own as in TG-DP."""

    own: bool = False
    """The contrast has its own view, through a second pass of the encoders, so that its mask may be milder; false is
    CAV-MAE Sync, and then the other fields of this group have no effect."""
    mask_ratio_audio: float = 0.5
    """Fraction of the patches of the log-mel that are masked in the contrast's own view; 0 masks none."""
    mask_ratio_image: float = 0.5
    """Fraction of the patches of the image that are masked in the contrast's own view; 0 masks none."""
    choice: PatchChoice = "random"
    """Which patches are kept: random, audio as model.audio_mask_mode says; top: those of the highest priority that the
    teacher gives; sampled: drawn by softmax of the priority; and as controls bottom: those of the lowest, and
    other-clip: those where another clip of the batch has the highest."""

    def __post_init__(self) -> None:
        for name in ("mask_ratio_audio", "mask_ratio_image"):
            ratio = getattr(self, name)
            require(0 <= ratio < 1, f"contrast_view.{name}={ratio} must be 0 or more and below 1.")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A teacher: the moving average of the model's weights, which sees whole inputs and is not trained."""

    momentum: float | None = None
    """Fraction of the teacher that stays at each step, the rest comes from the model; none has no teacher."""
    priority: PriorityDirection = "global-to-patch"
    """Attention of the teacher's last joint block that ranks patches: of the global token to each patch, as the paper
    is read; patch-to-global, of each patch to the global token, is the released code's."""
    distillation_weight: float = 0.0
    """Factor of the distillation loss in the total: the mean squared difference between global tokens of the
    contrast's view and the teacher's; 0 only logs it."""

    def __post_init__(self) -> None:
        momentum, weight = self.momentum, self.distillation_weight
        require(
            momentum is None or 0 <= momentum <= 1,
            f"teacher.momentum={momentum} must lie in [0, 1]; none has no teacher.",
        )
        require(weight >= 0, f"teacher.distillation_weight={weight} is negative; 0 only logs the loss.")
        require(
            weight == 0 or momentum is not None,
            f"teacher.distillation_weight={weight} needs a teacher: set teacher.momentum, such as 0.996, or "
            "teacher.distillation_weight=0.",
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """A complete pretraining run. Exactly one of `num_steps` and `num_epochs` sets its length."""

    model: ModelConfig
    data: DataConfig
    micro_batch: int | None = None
    """Clips that go through the model at once in each process, for a batch that its memory cannot hold; None is
    all of them. The result is the same up to rounding, for one more run of the encoders."""
    negatives: Negatives = "global"
    """Clips among which the contrastive loss finds a clip's partner: "global", all of the batch; a number such as 128,
    groups of so many clips, in the order of the batch and whatever the number of processes; "local", those in its
    process. A batch of fewer clips than the number is one group."""
    contrast_view: ContrastViewConfig = field(default_factory=ContrastViewConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    num_steps: int | None = None
    """Length in optimizer steps."""
    num_epochs: int | None = None
    """Length in epochs, each of which takes every clip once; clips that fill no whole batch at its end are left out."""
    activation_checkpointing: bool = False
    """Compute each block again in the backward instead of keeping what it computed: less memory, a third more
    time."""
    initial_weights: str | None = None
    """Weights that the run starts from: a checkpoint of ours, Sync's or CAV-MAE's, a file with a ViT, or
    timm:vit_base_patch16_224.mae, ImageNet-MAE, which is fetched once; None starts from random weights."""
    monitor: PretrainMonitorConfig = field(default_factory=PretrainMonitorConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            (self.num_steps is None) != (self.num_epochs is None),
            f"num_steps={self.num_steps} and num_epochs={self.num_epochs} contradict: "
            "give one of them and set the other to none.",
        )
        self.require_positive("num_steps", "num_epochs", "micro_batch")
        require(
            self.compile != "reduce-overhead" or self.micro_batch is None,
            f"compile=reduce-overhead and micro_batch={self.micro_batch} contradict: CUDA graphs write each part's gradients "
            "over those of the part before. Set compile=true, or micro_batch=none.",
        )
        self.batch_of_a_rank(1)
        self._require_whole_groups()
        self._check_contrast_view()

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

    def group_size(self, num_ranks: int) -> int:
        """Clips of a group, each of which the contrastive loss compares with all of its group."""
        if self.negatives == "local":
            return self.batch_of_a_rank(num_ranks)
        return self.batch_size if self.negatives == "global" else min(self.negatives, self.batch_size)

    @property
    def needs_priority(self) -> bool:
        """Whether the teacher's priorities decide which patches the contrast sees."""
        return self.contrast_view.choice != "random"

    @property
    def needs_contrast_noise(self) -> bool:
        """Whether the patches that the contrast sees are drawn apart from those of the reconstruction."""
        return self.contrast_view.own and self.contrast_view.choice in ("random", "sampled")

    def _check_contrast_view(self) -> None:
        view, model = self.contrast_view, self.model
        for name, count in (
            ("mask_ratio_audio", model.num_audio_patches),
            ("mask_ratio_image", model.num_image_patches),
        ):
            ratio = getattr(view, name)
            leaves_one = num_kept(count, ratio) >= 1
            require(leaves_one, f"contrast_view.{name}={ratio} must leave at least one of {count} patches.")
        if not self.needs_priority:
            return
        chosen = f"contrast_view.choice={view.choice}"
        require(
            view.own,
            f"{chosen} needs contrast_view.own=true: the reconstruction's patches are drawn at random.",
        )
        require(
            self.teacher.momentum is not None,
            f"{chosen} needs a teacher, which gives the priorities: set teacher.momentum, such as 0.996, or "
            "contrast_view.choice=random.",
        )
        require(
            model.global_tokens != "none",
            f"{chosen} needs a global token, whose attention is the priority: set model.global_tokens=contrastive, or "
            "contrast_view.choice=random.",
        )
        require(
            view.choice != "other-clip" or self.batch_size >= 2,
            f"{chosen} needs a batch of two clips or more, and batch_size={self.batch_size}.",
        )

    def total_steps(self, num_clips: int) -> int:
        """Optimizer steps of the whole run on `num_clips` clips."""
        if self.num_steps is not None:
            return self.num_steps
        assert self.num_epochs is not None  # __post_init__ leaves exactly one
        return self.num_epochs * (num_clips // self.batch_size)

    def _require_whole_groups(self) -> None:
        """ConfigError where the batch does not divide into groups of `negatives`."""
        batch, size = self.batch_size, self.negatives
        if isinstance(size, str):
            return
        require(size >= 2, f"negatives={size} must be at least 2: a clip alone is compared with nothing.")
        require(
            size >= batch or batch % size == 0,
            f"negatives={size} does not divide batch_size={batch}: the batch is cut into groups of equal size. Batches "
            f"that it divides are {_multiples_around(batch, size)}; negatives=global takes the whole batch as one group.",
        )


def _multiples_around(value: int, step: int) -> str:
    below = value // step * step
    return f"{below} and {below + step}" if below else str(step)
