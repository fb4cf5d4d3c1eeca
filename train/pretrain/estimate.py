"""The duration of a run on this machine, estimated from a few steps of a model that is discarded."""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from math import gcd
from statistics import fmean

import torch

from cavsync.train.data.pair_rule import Batch
from cavsync.train.data.sampler import Epochs, Position
from cavsync.train.engine.distributed import Ranks
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.initial import random_model
from cavsync.train.pretrain.objective import pretrain_step
from cavsync.train.pretrain.trainer import open_source

# On a CPU a step takes time in proportion to its clips; a GPU needs its whole batch to be busy.
MAX_CLIPS_ON_CPU = 8
WARM_UP_STEPS, MEASURED_STEPS = 1, 2


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate:
    """A forecast without saving, validation and compilation."""

    seconds: float
    clips_per_s: float
    steps_measured: int
    clips_a_step: int


def estimate(config: PretrainConfig, device: torch.device) -> TrainingEstimate:
    """Takes a few steps on the clips of the run, which they do not change: it starts from its seed."""
    size = config.batch_size if device.type == "cuda" else min(config.batch_size, MAX_CLIPS_ON_CPU)
    micro_batch = config.micro_batch if size == config.batch_size else None
    # A smaller batch has fewer clips to divide among reads.
    pairs_per_read = gcd(size, config.data.pairs_per_read)
    in_process = replace(config.data, num_workers=0, pairs_per_read=pairs_per_read)
    # Groups of clips may not divide a smaller batch, and take no time.
    small = replace(
        config, batch_size=size, micro_batch=micro_batch, negatives="global", compile=False, data=in_process
    )
    source = open_source(small)
    small = replace(small, data=source.config)
    # A dataset that does not fill one batch is refused, as by the run.
    num_clips = Epochs(len(source), config.batch_size, config.seed).num_clips
    reading_s, computing_s = _measure(
        small, source.batches(_start(num_clips, small), Ranks(), device), device
    )
    workers = config.data.num_workers
    # Workers read while the model computes.
    step_s = max(computing_s, reading_s / workers) if workers else computing_s + reading_s
    clips_per_s = size / step_s
    return TrainingEstimate(
        seconds=config.total_steps(num_clips) * config.batch_size / clips_per_s,
        clips_per_s=clips_per_s,
        steps_measured=MEASURED_STEPS,
        clips_a_step=size,
    )


def _start(num_clips: int, config: PretrainConfig) -> Position:
    return Epochs(num_clips, config.batch_size, config.seed).position_after(0)


def _measure(
    config: PretrainConfig, batches: Generator[Batch, None, None], device: torch.device
) -> tuple[float, float]:
    """Seconds that a step's reading takes, and its computing."""
    step = pretrain_step(config, random_model(config), device)
    reading, computing = [], []
    with closing(batches):
        for number in range(WARM_UP_STEPS + MEASURED_STEPS):
            began_s = time.perf_counter()
            batch = next(batches)
            read_s = time.perf_counter()
            step(batch, number + 1, lr=config.optimizer.lr).read()  # waits for the device
            reading.append(read_s - began_s)
            computing.append(time.perf_counter() - read_s)
    return fmean(reading[WARM_UP_STEPS:]), fmean(computing[WARM_UP_STEPS:])
