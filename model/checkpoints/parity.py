"""Whether an encoder answers from a file as it did from memory."""

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
Answers = tuple[Tensor, Tensor]  # the global token and the patches, as in `Encoding`
Encode = Callable[[Tensor], Answers]

# Sums in another order move float32 answers of the released size, which reach 5, by less than 1e-5.
TOLERANCE = 1e-4
# Neither is the size that programs are traced with.
BATCH_SIZES = (1, 3)


def encode_with(model: Encoder, name: EncoderName) -> Encode:
    """One encoder of `model` as a function of tensors alone."""
    encode = model.encode_audio if name == "audio" else model.encode_image

    def answers(batch: Tensor) -> Answers:
        encoding = encode(batch)
        return encoding.global_token, encoding.patches

    return answers


def item_shape(config: ModelConfig, name: EncoderName) -> tuple[int, ...]:
    """The shape of one input of the encoder, without its batch."""
    if name == "audio":
        return config.audio_rows, config.num_mels
    return 3, config.image_size, config.image_size


def noise(config: ModelConfig, name: EncoderName, batch: int, seed: int = 0) -> Tensor:
    """Standard normal input of the encoder, as normalised sounds and pictures roughly are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *item_shape(config, name), generator=generator)


@torch.inference_mode()
def largest_difference(model: Encoder, name: EncoderName, other: Encode) -> float:
    """Between the answers of `model` and of `other` to noise; infinite where one of them is no number."""
    differences = []
    for size in BATCH_SIZES:
        batch = noise(model.config, name, size)
        for own, others in zip(encode_with(model, name)(batch), other(batch), strict=True):
            differences.append(float((own - others).abs().max()))
    return max(each if math.isfinite(each) else math.inf for each in differences)


def require_near(path: Path, differences: Mapping[EncoderName, float], tolerance: float) -> None:
    """Raises CheckpointError where what was to become `path` differs by more than `tolerance`."""
    for name, difference in differences.items():
        if math.isinf(difference):
            raise CheckpointError(
                f"{path} was not written: answers of the {name} encoder are NaN or infinite. "
                "Look at the checkpoint: did its training diverge?"
            )
        if difference > tolerance:
            raise CheckpointError(
                f"{path} was not written: its {name} encoder answers differently from the model, by "
                f"{difference:.1e}, more than the tolerance of {tolerance:.1e}. --tolerance allows more."
            )
