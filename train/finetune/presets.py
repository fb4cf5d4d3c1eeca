"""Presets of classifiers: each is a function that returns a complete run, every number with its source.

Sources as in `pretrain/presets.py`: `YuanGongND/cav-mae`, its scripts and logs ("CAV-MAE"); `edsonroteia/cav-mae`, the
authors' development fork ("fork"); "ours" where we differ. Weights are averaged over ranges that are fixed here;
both papers' authors chose theirs by scores on the test set.
"""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import ConfigError, OptimizerConfig, ScheduleConfig, published_adam
from cavsync.train.engine.overrides import nearest
from cavsync.train.finetune.config import FinetuneConfig, HeadConfig, MixingConfig


def finetune_as20k() -> FinetuneConfig:
    """All weights on AudioSet's balanced 20 thousand clips, as CAV-MAE; scored by mAP."""
    return FinetuneConfig(
        preset="finetune-as20k",
        head=HeadConfig(kind="mlp"),
        data=_cavmae_inputs("data/audioset", "balanced_train"),
        frames_per_clip=1,  # CAV-MAE: one random frame a clip and epoch
        task="multi-label",
        mixing=_cavmae_mixing(),
        optimizer=published_adam(lr=5e-5),
        head_lr_factor=100,
        schedule=_halved_every_epoch(first=5, num_epochs=15),
        batch_size=36,
        num_epochs=15,
        average_epochs=(3, 15),
        precision="bfloat16",  # ours; upstream float16
    )


def finetune_as2m() -> FinetuneConfig:
    """All weights on all of AudioSet, rare classes drawn more often, as CAV-MAE; scored by mAP."""
    return replace(
        finetune_as20k(),
        preset="finetune-as2m",
        data=_cavmae_inputs("data/audioset", "train"),
        balanced=True,
        optimizer=published_adam(lr=1e-5),
        head_lr_factor=50,
        schedule=_halved_every_epoch(first=2, num_epochs=10),
        batch_size=48,
        num_epochs=10,
        average_epochs=(1, 10),
    )


def finetune_vggsound() -> FinetuneConfig:
    """All weights on VGGSound, as CAV-MAE; scored by top-1."""
    return replace(
        finetune_as2m(),
        preset="finetune-vggsound",
        data=_cavmae_inputs("data/vggsound", "train"),
        task="single-label",
        optimizer=published_adam(lr=1e-4),
        head_lr_factor=10,
        average_epochs=(3, 10),
    )


def finetune_as20k_augmented() -> FinetuneConfig:
    """finetune-as20k with random crops and flips of the images, unlike CAV-MAE; scored by mAP."""
    return _augmented(finetune_as20k())


def finetune_as2m_augmented() -> FinetuneConfig:
    """finetune-as2m with random crops and flips of the images, unlike CAV-MAE; scored by mAP."""
    return _augmented(finetune_as2m())


def finetune_vggsound_augmented() -> FinetuneConfig:
    """finetune-vggsound with random crops and flips of the images, unlike CAV-MAE; scored by top-1."""
    return _augmented(finetune_vggsound())


def probe_as20k() -> FinetuneConfig:
    """The Sync paper's attention probe on AudioSet's balanced 20 thousand clips, the encoders frozen.

    Ours trains the whole head. The fork named its parameters wrongly and left its two blocks at their random
    start, so its numbers are not comparable.
    """
    return FinetuneConfig(
        preset="probe-as20k",
        head=HeadConfig(kind="attention"),
        # Fork: random crops and flips; it parses mixup and SpecAugment, and its loader applies neither.
        data=DataConfig(
            path="data/audioset",
            split="balanced_train",
            image_augmentation=True,
            num_workers=8,  # ours
        ),
        task="multi-label",
        mixing=MixingConfig(label_smoothing=0.1),  # fork
        frozen=True,
        optimizer=published_adam(lr=2e-4),  # fork
        # Fork: cosine by step; warm-up and floor are taken to be those of its pretraining.
        schedule=ScheduleConfig(name="cosine", warmup_fraction=0.1, floor_ratio=0.1),
        batch_size=48,  # fork
        num_epochs=25,  # fork
        precision="bfloat16",  # ours; upstream float16
    )


def probe_vggsound() -> FinetuneConfig:
    """The Sync paper's attention probe on VGGSound, the encoders frozen."""
    probe = probe_as20k()
    return replace(
        probe,
        preset="probe-vggsound",
        data=replace(probe.data, path="data/vggsound", split="train"),
        task="single-label",
        balanced=True,  # fork
        optimizer=published_adam(lr=1e-4),  # fork
        num_epochs=10,  # fork
    )


def finetune_tiny() -> FinetuneConfig:
    """All weights of a `tiny` model on the demo's world: minutes on a CPU. All numbers are ours."""
    return FinetuneConfig(
        preset="finetune-tiny",
        # A small head on features that are comparable from the start: the run is too short to train a large one.
        head=HeadConfig(kind="linear"),
        # Whole frames: a small crop may miss the source of the audio.
        data=DataConfig(path="data/vggsound"),
        # The demo's clips show several things one after the other: a frame alone often lacks the one that counts.
        frames_per_clip=4,
        mixing=MixingConfig(max_masked_bands=8, max_masked_rows=8, label_smoothing=0.1),
        optimizer=_tiny_adam(lr=3e-4),
        head_lr_factor=10,
        schedule=ScheduleConfig(name="cosine", warmup_fraction=0.05, floor_ratio=0.02),
        batch_size=16,
        num_epochs=6,
        average_epochs=(5, 6),
        validate_every_epochs=3,
    )


def probe_tiny() -> FinetuneConfig:
    """The attention probe on a `tiny` model and the demo's world: seconds once the encoders have run over the clips. Ours."""
    return FinetuneConfig(
        preset="probe-tiny",
        head=HeadConfig(kind="attention"),
        data=DataConfig(path="data/vggsound"),
        mixing=MixingConfig(label_smoothing=0.1),
        frozen=True,
        cache_features=True,
        optimizer=_tiny_adam(lr=1e-3),
        schedule=ScheduleConfig(name="cosine", warmup_fraction=0.05, floor_ratio=0.02),
        batch_size=32,
        num_epochs=20,
        validate_every_epochs=5,
    )


def _cavmae_inputs(path: str, split: str) -> DataConfig:
    """CAV-MAE: noise and a roll on the audio, images as they are."""
    return DataConfig(path=path, split=split, audio_noise=True, num_workers=8)


def _augmented(preset: FinetuneConfig) -> FinetuneConfig:
    """The recipe with random crops and flips of the images, which the fork added for Sync."""
    return replace(
        preset, preset=f"{preset.preset}-augmented", data=replace(preset.data, image_augmentation=True)
    )


def _cavmae_mixing() -> MixingConfig:
    """CAV-MAE: SpecAugment, mixup on half of the items, label smoothing."""
    return MixingConfig(
        max_masked_bands=48, max_masked_rows=192, mixup_probability=0.5, mixup_beta=10.0, label_smoothing=0.1
    )


def _halved_every_epoch(first: int, num_epochs: int) -> ScheduleConfig:
    """CAV-MAE: halved after every epoch from the `first` on."""
    return ScheduleConfig(name="multistep", milestones=tuple(range(first, num_epochs)), gamma=0.5)


def _tiny_adam(lr: float) -> OptimizerConfig:
    return OptimizerConfig(name="adamw", lr=lr, betas=(0.9, 0.98), weight_decay=0.01, decay="matrices")


FINETUNE_PRESETS: MappingProxyType[str, Callable[[], FinetuneConfig]] = MappingProxyType(
    {
        "finetune-as20k": finetune_as20k,
        "finetune-as2m": finetune_as2m,
        "finetune-vggsound": finetune_vggsound,
        "finetune-as20k-augmented": finetune_as20k_augmented,
        "finetune-as2m-augmented": finetune_as2m_augmented,
        "finetune-vggsound-augmented": finetune_vggsound_augmented,
        "finetune-tiny": finetune_tiny,
        "probe-as20k": probe_as20k,
        "probe-vggsound": probe_vggsound,
        "probe-tiny": probe_tiny,
    }
)


def finetune_preset(name: str) -> FinetuneConfig:
    """The run called `name`; ConfigError names the nearest one where there is none."""
    if name not in FINETUNE_PRESETS:
        raise ConfigError(f"There is no classifier preset {name!r}{nearest(name, FINETUNE_PRESETS)}")
    return FINETUNE_PRESETS[name]()
