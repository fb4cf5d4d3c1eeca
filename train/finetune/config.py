"""The configuration of fine-tuning and of probes."""

from dataclasses import dataclass, replace
from typing import Literal

from cavsync.model.classifier_config import (
    ClassifierConfig,
    Modality,
    attention_probe,
    cavmae_finetuning,
    linear_probe,
    sync_finetuning,
)
from cavsync.model.config import ModelConfig
from cavsync.train.choices import LabelTask
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import RunConfig, require


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The head on the encoders, and its inputs."""

    kind: Literal["attention", "linear", "mlp"]
    """attention: two blocks over all frames of a clip, the paper's probe; linear: one linear layer on each frame
    and nothing else; mlp: a norm and a linear layer on each frame, as CAV-MAE fine-tunes."""
    modality: Modality = "both"
    """both, or audio or image alone; the other is not even read."""
    attention_depth: int = 2
    """Blocks of an attention head."""

    def classifier(self, num_classes: int, model: ModelConfig) -> ClassifierConfig:
        """The classifier on encoders of `model`."""
        if self.kind == "linear":
            return linear_probe(num_classes, self.modality)
        if self.kind == "mlp":
            recipe = sync_finetuning if model.num_global_tokens else cavmae_finetuning
            return recipe(num_classes, self.modality)
        probe = attention_probe(num_classes, self.modality)
        return replace(probe, attention_depth=self.attention_depth)


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """Random changes that only classifiers train with; flips, crops and noise are in `data`."""

    max_masked_bands: int = 0
    """SpecAugment: longest run of hidden mel bands; 0 hides none."""
    max_masked_rows: int = 0
    """SpecAugment: longest run of hidden rows, of 10 ms each."""
    mixup_probability: float = 0.0
    """How probable it is that an item is a mixture of two clips, in audio, image and labels."""
    mixup_beta: float = 10.0
    """The weight of the first clip in a mixture is drawn from Beta(b, b)."""
    label_smoothing: float = 0.0
    """Targets are 1 - s for a clip's classes and s / classes for the others."""

    def __post_init__(self) -> None:
        for name in ("max_masked_bands", "max_masked_rows"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} is negative.")
        require(
            0 <= self.mixup_probability <= 1,
            f"mixup_probability={self.mixup_probability} must lie in [0, 1].",
        )
        require(self.mixup_beta > 0, f"mixup_beta={self.mixup_beta} must be positive.")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, f"label_smoothing={smoothing} must lie in [0, 1).")

    @property
    def changes_inputs(self) -> bool:
        return bool(self.max_masked_bands or self.max_masked_rows or self.mixup_probability)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """A complete run of `cavsync train finetune` or `cavsync train probe`."""

    initial_weights: str | None = None
    """Run folder or checkpoint with the encoders to start from; needed, there is no default."""
    initial_fields: tuple[str, ...] = ()
    """Fields of the model in `initial_weights`, each as FIELD=VALUE, that a published file does not state: num_heads=3."""
    keep_head: bool = False
    """Start from the head of `initial_weights` too; it must be for the same classes."""
    audio_rows: int | None = None
    """Length of the model's audio windows; None keeps that of `initial_weights`."""
    head: HeadConfig
    data: DataConfig
    frames_per_clip: int | None = None
    """Frames of a clip in a training step, drawn at random; None is all of them."""
    task: LabelTask | None = None
    """single-label: softmax and cross-entropy; multi-label: a sigmoid a class and binary cross-entropy;
    None: multi-label where some clip of the split has several labels."""
    balanced: bool = False
    """Draw clips with replacement, so that rare classes come as often as frequent ones."""
    mixing: MixingConfig
    frozen: bool = False
    """Train the head alone: a probe."""
    cache_features: bool = False
    """Run the frozen encoders over the split once and keep the results in memory; without random changes only."""
    head_lr_factor: float = 1.0
    """The head's learning rate is this times `optimizer.lr`."""
    num_epochs: int
    """Length in epochs, each of which takes every clip once; clips that fill no whole batch at its end are left out."""
    average_epochs: tuple[int, int] | None = None
    """First and last epoch whose final weights are averaged into the result; None takes the last weights."""
    validation_split: str | None = "test"
    """Split to validate on: "test" is all splits for testing, a name that one; None never validates."""
    validate_every_epochs: int = 1
    """Epochs between two validations; the result is always scored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("num_epochs", "validate_every_epochs", "frames_per_clip")
        require(self.head_lr_factor > 0, f"head_lr_factor={self.head_lr_factor} must be positive.")
        first, last = self.average_epochs or (1, self.num_epochs)
        require(
            1 <= first <= last <= self.num_epochs,
            f"average_epochs={self.average_epochs} is no range of the {self.num_epochs} epochs: set both.",
        )
        for name, usual in (("pairing", "matched"), ("source", "index")):
            value = getattr(self.data, name)
            require(
                value == usual, f"data.{name}={value!r} is for pretraining only; set data.{name}={usual}."
            )
        self._check_cache()

    def total_steps(self, num_clips: int) -> int:
        """Optimizer steps of the whole run on `num_clips` clips."""
        return self.num_epochs * (num_clips // self.batch_size)

    def average_of(self, num_epochs: int) -> tuple[int, int] | None:
        """The averaged epochs of this run where it ends after `num_epochs`: an average up to the end stays one."""
        if self.average_epochs is None or self.average_epochs[0] > num_epochs:
            return None
        first, last = self.average_epochs
        return first, num_epochs if last == self.num_epochs else min(last, num_epochs)

    def _check_cache(self) -> None:
        changes = self.mixing.changes_inputs or self.data.image_augmentation or self.data.audio_noise
        require(
            not self.cache_features or (self.frozen and not changes),
            "cache_features=True keeps what frozen encoders make of unchanged clips: it needs frozen=True and "
            "data.image_augmentation, data.audio_noise, mixing.mixup_probability and mixing.max_masked_* off.",
        )
