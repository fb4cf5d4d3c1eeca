"""Comparison of an encoder that was read back from a file with the model in memory."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cavsync.model.config import ModelConfig
from cavsync.model.encoder import Encoder
from cavsync.model.errors import CheckpointError

EncoderName = Literal["audio", "image"]
EncoderOutputs = tuple[Tensor, Tensor]
"""The global token, (batch, dim), and the patches, (batch, rows, columns, dim), as in `Encoding`."""
Encode = Callable[[Tensor], EncoderOutputs]

# Neither is the batch size that programs are traced with.
BATCH_SIZES = (1, 3)


def encode_with(model: Encoder, name: EncoderName) -> Encode:
    """One encoder of `model` as a function of its batch, (batch, ...) as in `item_shape`."""
    encode = model.encode_audio if name == "audio" else model.encode_image

    def outputs(batch: Tensor) -> EncoderOutputs:
        encoding = encode(batch)
        return encoding.global_token, encoding.patches

    return outputs


def item_shape(config: ModelConfig, name: EncoderName) -> tuple[int, ...]:
    """The shape of one input without the batch axis: (time, mels) of audio, (3, height, width) of an image."""
    if name == "audio":
        return config.audio_rows, config.num_mels
    return 3, config.image_size, config.image_size


def noise(config: ModelConfig, name: EncoderName, batch: int, seed: int = 0) -> Tensor:
    """Standard normal input (batch, *item_shape), roughly distributed as normalised audio and images are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *item_shape(config, name), generator=generator)


@torch.inference_mode()
def largest_difference(model: Encoder, name: EncoderName, other: Encode) -> float:
    """The largest difference between outputs of `model` and `other` for noise; infinite where one is NaN."""
    differences = []
    for size in BATCH_SIZES:
        batch = noise(model.config, name, size)
        for expected, actual in zip(encode_with(model, name)(batch), other(batch), strict=True):
            differences.append(float((expected - actual).abs().max()))
    return max(each if math.isfinite(each) else math.inf for each in differences)


@torch.inference_mode()
def direction_difference(model: Encoder, name: EncoderName, other: Encode) -> float:
    """The largest 1 - cosine between global tokens of `model` and `other` for noise; infinite where one is NaN."""
    cosines = []
    for size in BATCH_SIZES:
        batch = noise(model.config, name, size)
        expected, actual = encode_with(model, name)(batch)[0], other(batch)[0]
        cosines.append(float(torch.cosine_similarity(expected, actual, dim=-1).min()))
    return max(1 - each if math.isfinite(each) else math.inf for each in cosines)


def require_near(path: Path, differences: Mapping[EncoderName, float], tolerance: float) -> None:
    """Raises CheckpointError where the file that was to become `path` differs by more than `tolerance`."""
    for name, difference in differences.items():
        if math.isinf(difference):
            raise CheckpointError(
                f"{path} was not written: outputs of the {name} encoder are NaN or infinite. "
                "Did the training of this checkpoint diverge?"
            )
        if difference > tolerance:
            raise CheckpointError(
                f"{path} was not written: outputs of its {name} encoder differ from the model's by "
                f"{difference:.1e}, more than the tolerance of {tolerance:.1e}. --tolerance allows more."
            )
