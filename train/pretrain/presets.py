"""Presets of pretraining: each is a function that returns a complete run, every number with its source.

Sources: `YuanGongND/cav-mae`, its scripts and training logs ("CAV-MAE"); `edsonroteia/cav-mae`, the authors'
public development fork, the only public source for how Sync was trained ("fork"); for TG-DP its paper, as two
independent notes quote it ("paper"), and `wanglg20/TG-DP`, code for evaluation only ("release"); "ours" where we
differ, and where nobody published a number.
"""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from cavsync.model import config as models
from cavsync.model.checkpoints.timm_weights import IMAGENET_MAE
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.config import ConfigError, OptimizerConfig, ScheduleConfig, published_adam
from cavsync.train.engine.overrides import nearest
from cavsync.train.pretrain.config import ContrastViewConfig, PretrainConfig, TeacherConfig

# AudioSet's log-mel statistics; both repositories use them for VGGSound too.
AUDIOSET_MEL_MEAN, AUDIOSET_MEL_STD = -5.081, 4.4849
# Both repositories pad the log-mel with zeros before they normalise it.
PUBLISHED_PAD_VALUE = 0.0


def sync_base() -> PretrainConfig:
    """CAV-MAE Sync on AudioSet-2M, as its authors' development code trained the siblings of the released weights."""
    return PretrainConfig(
        preset="sync-base",
        model=models.sync_base(),
        data=DataConfig(
            path="data/audioset",
            # Ours: upstream's windows go by frame number and drift up to .4 s from the frame; to reproduce
            # that, prepare with `--frame-times upstream` and set data.alignment=upstream.
            alignment="time",
            mel_mean=AUDIOSET_MEL_MEAN,
            mel_std=AUDIOSET_MEL_STD,
            pad_value=PUBLISHED_PAD_VALUE,
            num_workers=8,  # ours
        ),
        optimizer=published_adam(lr=2e-4),  # fork
        # Fork: per step, linear warm-up over a tenth of the run, cosine to a tenth of the rate.
        schedule=ScheduleConfig(name="cosine", warmup_fraction=0.1, floor_ratio=0.1),
        batch_size=512,  # fork; over 4 GPUs
        initial_weights=IMAGENET_MAE,  # fork: ImageNet-MAE, which CAV-MAE adapted
        # Fork: DataParallel computes the loss in each of its 4 GPUs, from the 128 clips there.
        negatives=128,
        num_epochs=25,  # fork; the released weights are epoch 25's
        precision="bfloat16",  # ours: the range of float32, so no loss scaling; upstream float16
    )


def cavmae_base() -> PretrainConfig:
    """The original CAV-MAE on AudioSet-2M, the size that its authors call Scale+."""
    return PretrainConfig(
        preset="cavmae-base",
        model=models.cavmae_base(),
        data=DataConfig(
            path="data/audioset",
            alignment="time",  # a window as long as the clip: the frame does not move it
            mel_mean=AUDIOSET_MEL_MEAN,
            mel_std=AUDIOSET_MEL_STD,
            pad_value=PUBLISHED_PAD_VALUE,
            audio_noise=True,  # CAV-MAE: `--noise True`
            num_workers=8,  # ours
        ),
        optimizer=published_adam(lr=1e-4),  # CAV-MAE, Scale+
        # CAV-MAE: halved every 5 epochs from the 10th on; its `--warmup` is parsed and never used.
        schedule=ScheduleConfig(name="multistep", milestones=(10, 15, 20), gamma=0.5),
        batch_size=120,  # CAV-MAE's script for Scale+; the released file says 108
        initial_weights=IMAGENET_MAE,  # CAV-MAE
        negatives=30,  # CAV-MAE: the clips of one of its 4 GPUs; 27 of the released file's 108
        num_epochs=25,  # CAV-MAE
        precision="bfloat16",  # ours; upstream float16
    )


def tgdp_base() -> PretrainConfig:
    """TG-DP on AudioSet-2M: CAV-MAE Sync with a view of its own for the contrast and a teacher; unproven here.

    Neither paper nor release says how it was optimized, nor the weights of its losses: those are sync-base's.
    """
    sync = sync_base()
    return replace(
        sync,
        preset="tgdp-base",
        # The release has a one-way loss of each process and a two-way one over all; it imports what only the latter
        # needs. Which of them trained is not published.
        model=replace(sync.model, contrastive_direction="two-way"),
        negatives="global",
        contrast_view=ContrastViewConfig(
            own=True,
            mask_ratio_audio=0.5,  # paper
            mask_ratio_image=0.5,  # paper
            choice="top",  # paper
        ),
        teacher=TeacherConfig(
            momentum=0.996,  # ours: not published
            priority="global-to-patch",  # paper; the release has the other direction
            distillation_weight=1.0,  # ours: not published
        ),
        num_epochs=35,  # derived from the paper: 10.2 h in all, 1,045 s an epoch
    )


def tiny() -> PretrainConfig:
    """The same graph at toy size, for the demo's world: minutes on two CPU cores. All numbers are ours."""
    return PretrainConfig(
        preset="tiny",
        model=models.tiny(),
        data=DataConfig(path="data/demo"),
        optimizer=OptimizerConfig(
            name="adamw", lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, decay="matrices"
        ),
        schedule=ScheduleConfig(name="cosine", warmup_fraction=0.05, floor_ratio=0.02),
        batch_size=64,
        num_steps=1000,
        checkpoint_every_steps=500,
    )


def tgdp_tiny() -> PretrainConfig:
    """TG-DP at toy size, for the demo's world. All numbers are ours but the mask of the contrast's view."""
    base, small = tgdp_base(), tiny()
    return replace(
        small,
        preset="tgdp-tiny",
        contrast_view=base.contrast_view,
        # A thousand steps: the teacher forgets its random start within a few hundred.
        teacher=replace(base.teacher, momentum=0.99),
    )


PRESETS: MappingProxyType[str, Callable[[], PretrainConfig]] = MappingProxyType(
    {
        "sync-base": sync_base,
        "cavmae-base": cavmae_base,
        "tiny": tiny,
        "tgdp-base": tgdp_base,
        "tgdp-tiny": tgdp_tiny,
    }
)


def preset(name: str) -> PretrainConfig:
    """The run called `name`; ConfigError names the nearest one where there is none."""
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name]()
