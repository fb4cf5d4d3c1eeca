"""Proves the count of operations against torch's own, which counts each product as it runs."""

from typing import Any

import pytest
import torch
from support.rank_work import MODELS, run_of, some_batch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import sync_base
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.flops import flops_of_a_clip
from cavsync.train.pretrain.objective import PretrainObjective


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_operations_are_those_that_torch_counts(model: dict[str, Any]) -> None:
    config = run_of(**model)
    objective = PretrainObjective(config, CavMaeSync(config.model), torch.device("cpu"), Ranks())
    # Attention as plain products: torch counts none within its fused kernels on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective.backward(some_batch(config), lambda loss: loss)
    size, levels = config.batch_size, 1 + config.model.global_local_losses
    # Forward and backward over the batch, and the forward alone within the model.
    compared = (3 + 1) * 2 * size * size * config.model.embed_dim * levels
    assert counter.get_total_flops() == size * flops_of_a_clip(config.model) + compared


def test_the_published_model_takes_136_gflop_a_clip() -> None:
    assert flops_of_a_clip(sync_base()) == pytest.approx(135.6e9, rel=1e-3)
