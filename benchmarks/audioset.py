"""What a run of AudioSet-2M costs, on paper: cores, GPUs, bytes, and what GPUs say to each other.

    python -m benchmarks.audioset [--clips N] [--prepare-s S] [--mfu F] [--batch N]

Operations and sizes are those of the preset sync-base. Assumed, not measured, are the numbers below and the share of a GPU's peak;
the time of preparing a clip is what `benchmarks.prepare` found on a slow processor.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import typer

from benchmarks.support import results
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.flops import flops_of_a_clip
from cavsync.train.pretrain.presets import preset

# Dense bfloat16 peak of an H100 SXM; bytes a second that it sends to GPUs of its node and, through one 400 Gb/s adapter, of others.
# All from data sheets.
PEAK_FLOPS = 989e12
NODE_BYTES_PER_S, NETWORK_BYTES_PER_S = 450e9, 50e9
GPUS_OF_A_NODE = 8
NUM_GPUS = (1, 8, 64)
# Bytes that a video, a prepared clip, and a pair from the index take: the first assumed, the others measured (benchmarks/LOG.md).
VIDEO_BYTES, CLIP_BYTES, PAIR_BYTES = 1.5e6, 421e3, 120e3


def main(
    clips: int = 2_000_000, prepare_s: float = 0.145, mfu: float = 0.4, batch: int | None = None
) -> None:
    config = preset("sync-base")
    config = replace(config, batch_size=batch or config.batch_size)
    assert config.num_epochs is not None
    pairs = clips * config.num_epochs
    rows = [
        results.Row(what="preparing", values=[clips * prepare_s / 3600], unit="core-hours"),
        results.Row(what="preparing: videos read", values=[clips * VIDEO_BYTES / 1e12], unit="TB"),
        results.Row(what="preparing: shards written", values=[clips * CLIP_BYTES / 1e12], unit="TB"),
        results.Row(what=f"{config.num_epochs} epochs", values=[gpu_hours(config, pairs, mfu)], unit="GPU-hours"),
        results.Row(what="training: read from the index", values=[pairs * PAIR_BYTES / 1e12], unit="TB"),
        results.Row(what="training: read from a stream", values=[pairs * CLIP_BYTES / 1e12], unit="TB"),
        *(row for count in NUM_GPUS for row in step_rows(config, count, pairs, mfu)),
    ]  # fmt: skip
    title = f"{clips:,} clips with {config.preset}, {config.batch_size:,} a step, on paper, at {mfu:.0%} of the GPUs' peak"
    results.publish("audioset", title, rows)


def gpu_hours(config: PretrainConfig, pairs: int, mfu: float) -> float:
    return pairs * flops_of_a_clip(config) / (mfu * PEAK_FLOPS) / 3600


def step_rows(config: PretrainConfig, num_gpus: int, pairs: int, mfu: float) -> Iterator[results.Row]:
    """A step without what overlaps, the longest that it can take, and the two exchanges in it."""
    compute_s = config.batch_size * flops_of_a_clip(config) / (num_gpus * mfu * PEAK_FLOPS)
    gradients_s = ring_s(2 * gradient_bytes(config), num_gpus)
    gather_s = ring_s(embedding_bytes(config), num_gpus)
    step_s = compute_s + gradients_s + gather_s
    name = f"{num_gpus} GPU{'' if num_gpus == 1 else 's'}"
    yield results.Row(what=f"{name}: feeding them", values=[config.batch_size / step_s], unit="pairs/s")
    yield results.Row(
        what=f"{name}: all epochs", values=[pairs / config.batch_size * step_s / 3600], unit="h"
    )
    if num_gpus > 1:
        yield results.Row(what=f"{name}: sum of gradients", values=[100 * gradients_s / step_s], unit="%")
        gathered = "gathered embeddings, with negatives=global"
        yield results.Row(what=f"{name}: {gathered}", values=[100 * gather_s / step_s], unit="%")


def ring_s(num_bytes: float, num_gpus: int) -> float:
    """Each GPU sends (N - 1) / N of the bytes; the slowest link decides."""
    bandwidth = NODE_BYTES_PER_S if num_gpus <= GPUS_OF_A_NODE else NETWORK_BYTES_PER_S
    return num_bytes * (num_gpus - 1) / num_gpus / bandwidth


def gradient_bytes(config: PretrainConfig) -> int:
    """float32, of every trained parameter."""
    with torch.device("meta"):
        model = CavMaeSync(config.model)
    return sum(4 * parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def embedding_bytes(config: PretrainConfig) -> int:
    """float32, of audio and image of every clip in the batch."""
    return config.batch_size * 2 * 4 * config.model.embed_dim


if __name__ == "__main__":
    typer.run(main)
