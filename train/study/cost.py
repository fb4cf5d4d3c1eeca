"""The compute of an arm: counted floating-point operations of one step, forward and backward."""

from contextlib import closing
from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cavsync.train.data.sampler import Epochs
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.initial import random_model
from cavsync.train.pretrain.objective import pretrain_step
from cavsync.train.pretrain.trainer import open_source

# Operations grow with the clips of a step, but for the comparison of all with all, which is less than a thousandth.
COUNTED_CLIPS = 2


def step_flops(config: PretrainConfig) -> int:
    """Floating-point operations of one step of `config`, a multiplication and an addition being two.

    Matrix products, convolutions and attention are counted, as torch's FlopCounterMode does, on two clips of the run and a
    model with random weights, on the CPU; what activation checkpointing and micro-batches compute twice is left out.
    """
    data = replace(config.data, num_workers=0)
    small = replace(
        config,
        data=data,
        batch_size=COUNTED_CLIPS,
        micro_batch=None,
        activation_checkpointing=False,
        compile=False,
        precision="float32",
        negatives="global",
    )
    device, source = torch.device("cpu"), open_source(small)
    start = Epochs(len(source), COUNTED_CLIPS, small.seed).position_after(0)
    step = pretrain_step(small, random_model(small), device)
    with closing(source.batches(start, Ranks(), device)) as batches:
        batch = next(batches)
    # The fused attention of a CPU is not counted; this one is the same in matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step.objective.backward(batch, lambda loss: loss)
    return int(counter.get_total_flops() * config.batch_size / COUNTED_CLIPS)
