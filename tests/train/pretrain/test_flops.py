"""Proves the count of operations against torch's own, which counts each product as it runs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.documents.pages import ROOT
from support.rank_work import MODELS, run_of, some_batch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.config import ContrastViewConfig, PretrainConfig, TeacherConfig
from cavsync.train.pretrain.flops import flops_of_a_clip
from cavsync.train.pretrain.objective import PretrainObjective
from cavsync.train.pretrain.presets import preset

# Beside those of MODELS: a view of its own, a teacher for its token alone, and for priorities of either direction.
TAUGHT = TeacherConfig(momentum=0.9, distillation_weight=1.0)
VIEWS: list[dict[str, Any]] = [
    {"contrast_view": ContrastViewConfig(own=True, mask_ratio_audio=0.25)},
    {"teacher": TAUGHT},
    {"contrast_view": ContrastViewConfig(own=True, choice="top"), "teacher": TAUGHT},
    {
        "contrast_view": ContrastViewConfig(own=True, choice="top"),
        "teacher": replace(TAUGHT, priority="patch-to-global"),
        "model": run_of(
            global_tokens="per-task", keep_registers=True, contrastive_head_depth=1, joint_depth=2
        ).model,
    },
]
CONFIGS = [*(run_of(**model) for model in MODELS), *(replace(run_of(), **view) for view in VIEWS)]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_the_operations_are_those_that_torch_counts(config: PretrainConfig) -> None:
    objective = PretrainObjective(config, CavMaeSync(config.model), torch.device("cpu"), Ranks())
    # Attention as plain products: torch counts none within its fused kernels on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective.backward(some_batch(config), lambda loss: loss)
    size, levels = config.batch_size, 1 + config.model.global_local_losses
    # Once, forward and backward: the model does not compare the clips of a pass by itself.
    compared = 3 * 2 * size * size * config.model.embed_dim * levels
    assert counter.get_total_flops() == size * flops_of_a_clip(config) + compared


def test_the_published_model_takes_136_gflop_a_clip() -> None:
    assert flops_of_a_clip(preset("sync-base")) == pytest.approx(135.6e9, rel=1e-3)


def test_tgdp_takes_the_operations_that_docs_say() -> None:
    ratios = []
    for name, without in (("tgdp-base", "sync-base"), ("tgdp-tiny", "tiny")):
        ratios.append(flops_of_a_clip(preset(name)) / flops_of_a_clip(preset(without)))
    page = (ROOT / "docs" / "training.md").read_text()
    assert f"| TG-DP | {ratios[0]:.2f} | {ratios[1]:.2f} |" in page
