"""Proves that every preset is complete: it builds its model, and holds the numbers its sources give."""

import json
import math
from dataclasses import replace

import pytest
import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.engine.config import ConfigError, ScheduleConfig, as_dict
from cavsync.train.engine.optimizer import build_optimizer, lr_ratio
from cavsync.train.pretrain.config import ContrastViewConfig, TeacherConfig
from cavsync.train.pretrain.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_its_model_and_optimizer(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):  # full size, without the memory
        model = CavMaeSync(config.model)
    optimizer = build_optimizer(config.optimizer, model)
    stepped = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert stepped == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_stored_under_its_name_and_as_json(name: str) -> None:
    content = as_dict(preset(name))
    assert content["preset"] == name
    assert json.loads(json.dumps(content)) == content


def test_sync_base_is_the_published_recipe() -> None:
    config = preset("sync-base")
    assert (config.batch_size, config.num_epochs, config.model.contrastive_weight) == (512, 25, 0.1)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.betas) == ("adam", 2e-4, (0.95, 0.999))
    assert (optimizer.weight_decay, optimizer.clip_grad_norm) == (5e-7, None)
    assert (config.data.mel_mean, config.data.mel_std) == (-5.081, 4.4849)
    assert config.total_steps(num_clips=1_772_023) == 25 * 3460


def test_cavmae_base_is_the_published_recipe() -> None:
    config = preset("cavmae-base")
    assert (config.batch_size, config.num_epochs, config.optimizer.lr) == (120, 25, 1e-4)
    assert (config.model.audio_rows, config.model.contrastive_weight) == (1024, 0.01)


def test_tgdp_is_sync_but_for_what_its_paper_changes() -> None:
    config, sync = preset("tgdp-base"), preset("sync-base")
    view, teacher = config.contrast_view, config.teacher
    assert (view.own, view.mask_ratio_audio, view.mask_ratio_image, view.choice) == (True, 0.5, 0.5, "top")
    assert (teacher.momentum, teacher.priority, teacher.distillation_weight) == (0.996, "global-to-patch", 1)
    assert (config.model.contrastive_direction, config.negatives, config.num_epochs) == (
        "two-way",
        "global",
        35,
    )
    off = {"contrast_view": ContrastViewConfig(), "teacher": TeacherConfig()}
    of_sync = {"preset": sync.preset, "model": sync.model, "negatives": sync.negatives, "num_epochs": 25}
    assert replace(config, **off, **of_sync) == sync
    tiny = preset("tgdp-tiny")
    assert tiny.teacher.momentum == 0.99
    assert replace(tiny, preset="tiny", **off) == preset("tiny")


def test_an_unknown_preset_names_its_nearest_neighbour() -> None:
    with pytest.raises(ConfigError, match="There is no preset 'sync_base'; did you mean 'sync-base'\\?"):
        preset("sync_base")
    with pytest.raises(ConfigError, match="'xyz'; there are: sync-base, cavmae-base, tiny"):
        preset("xyz")


def test_the_published_schedule_climbs_and_falls_by_step() -> None:
    schedule, num_steps, warmup = preset("sync-base").schedule, 1000, 100
    ratios = [lr_ratio(schedule, step, num_steps, 10) for step in range(num_steps)]
    assert ratios[:warmup] == [(step + 1) / warmup for step in range(warmup)]
    assert ratios[warmup] == 1.0
    for step in (250, 700, 999):
        cosine = math.cos(math.pi * (step - warmup) / (num_steps - warmup))
        assert ratios[step] == pytest.approx(0.1 + 0.5 * (1 + cosine) * 0.9)


def test_the_first_rate_is_halved_after_epochs_10_15_and_20() -> None:
    schedule, steps_per_epoch = preset("cavmae-base").schedule, 7
    ratios = [lr_ratio(schedule, epoch * steps_per_epoch, 25 * steps_per_epoch, 7) for epoch in range(25)]
    assert ratios == [1.0] * 10 + [0.5] * 5 + [0.25] * 5 + [0.125] * 5
    assert lr_ratio(schedule, 10 * steps_per_epoch - 1, 25 * steps_per_epoch, 7) == 1.0


def test_only_matrices_decay_in_tiny() -> None:
    config = preset("tiny")
    model = CavMaeSync(config.model)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, spared = (
        {names[id(p)] for p in group["params"]}
        for group in build_optimizer(config.optimizer, model).param_groups
    )
    assert {"blocks_a.0.attn.qkv.weight", "patch_embed_a.proj.weight", "decoder_pred_v.weight"} <= decayed
    assert {"blocks_a.0.attn.qkv.bias", "norm_a.weight", "mask_token", "register_tokens"} <= spared


def test_contradictions_are_refused_with_both_values() -> None:
    with pytest.raises(ConfigError, match="num_steps=1000 and num_epochs=3 contradict"):
        replace(preset("tiny"), num_epochs=3)
    with pytest.raises(ConfigError, match="num_steps=None and num_epochs=None contradict"):
        replace(preset("tiny"), num_steps=None)
    with pytest.raises(ConfigError, match="compile=reduce-overhead and micro_batch=32 contradict"):
        replace(preset("tiny"), compile="reduce-overhead", micro_batch=32)
    with pytest.raises(ConfigError, match=r"schedule 'cosine' with milestones=\(3,\) contradict"):
        ScheduleConfig(name="cosine", milestones=(3,))
    with pytest.raises(ConfigError, match=r"warmup_fraction=5 must lie in \[0, 1\]"):
        ScheduleConfig(warmup_fraction=5)
    with pytest.raises(ConfigError, match="batch_size=0 must be at least 1"):
        replace(preset("tiny"), batch_size=0)
