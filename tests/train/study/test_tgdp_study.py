"""Proves that the study of TG-DP has the arms that take it apart, and that each of them trains."""

import torch
from support.rank_work import CPU, some_batch
from support.trainings import MICRO

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.engine.config import as_dict, differing_fields
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.objective import pretrain_step
from cavsync.train.pretrain.presets import preset
from cavsync.train.study.study_file import read_study

STUDY = read_study("tgdp")
ARMS: dict[str, PretrainConfig] = {arm.name: STUDY.config(arm, "data/demo") for arm in STUDY.arms}


def changed(one: str, other: str) -> dict[str, object]:
    """The fields that the arm `other` has otherwise than `one`, with its values."""
    return {
        name: after for name, (_, after) in differing_fields(as_dict(ARMS[one]), as_dict(ARMS[other])).items()
    }


def test_the_arms_begin_with_sync_and_end_with_the_preset_of_tgdp() -> None:
    assert ARMS["sync"] == preset("tiny")
    assert differing_fields(as_dict(ARMS["tgdp"]), as_dict(preset("tgdp-tiny"))) == {
        "preset": ("tiny", "tgdp-tiny")
    }


def test_each_pair_of_arms_isolates_one_piece() -> None:
    mild = {"model.mask_ratio_audio": 0.5, "model.mask_ratio_image": 0.5}
    teacher = {"teacher.momentum": 0.99}
    assert changed("sync", "half-mask") == mild
    assert changed("own-view-same-mask", "own-view") == {
        "contrast_view.mask_ratio_audio": 0.5,
        "contrast_view.mask_ratio_image": 0.5,
    }
    # The second pass keeps the mask that Sync's one pass has.
    same = ARMS["own-view-same-mask"]
    assert (same.contrast_view.mask_ratio_audio, same.contrast_view.mask_ratio_image) == (0.75, 0.75)
    assert (same.model.mask_ratio_audio, same.model.mask_ratio_image) == (0.75, 0.75)
    assert changed("own-view", "distilled") == teacher | {"teacher.distillation_weight": 1.0}
    assert changed("own-view", "guided") == teacher | {"contrast_view.choice": "top"}
    assert changed("distilled", "tgdp") == {"contrast_view.choice": "top"}
    assert changed("guided", "tgdp") == {"teacher.distillation_weight": 1.0}
    assert changed("tgdp", "released-direction") == {"teacher.priority": "patch-to-global"}
    assert changed("tgdp", "other-clip") == {"contrast_view.choice": "other-clip"}
    assert changed("tgdp", "bottom") == {"contrast_view.choice": "bottom"}


def test_sync_and_tgdp_are_compared_at_equal_compute_too_and_over_five_seeds() -> None:
    assert STUDY.compute_of == "tgdp"
    assert [arm.name for arm in STUDY.arms if "equal-compute" in arm.budgets] == ["sync", "own-view", "tgdp"]
    assert len(STUDY.seeds) >= 5
    assert STUDY.primary == "one-moment-r1"


def test_each_arm_takes_a_step_with_its_own_losses() -> None:
    losses = {}
    for name, config in ARMS.items():
        small = apply_overrides(config, [*MICRO, "batch_size=4"])
        torch.manual_seed(0)
        step = pretrain_step(small, CavMaeSync(small.model), CPU)
        measured = step(some_batch(small), 1, lr=1e-3).by_name()
        assert ("distillation" in measured) == (small.teacher.momentum is not None), name
        losses[name] = measured["loss"]
    assert len(set(losses.values())) == len(ARMS)
