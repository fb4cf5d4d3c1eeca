"""Reconstructed audio and images: inputs whose removed patches are replaced by the model's predictions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.losses import denormalise
from cavsync.model.masking import Mask
from cavsync.model.patches import patchify, spectrogram, unpatchify


@dataclass(frozen=True)
class Inpainting:
    """Inputs with their removed patches replaced by predictions, in the units of the inputs."""

    audio: Tensor
    """(batch, time, mels)."""
    image: Tensor
    """(batch, 3, height, width)."""
    removed_audio: Tensor
    """(batch, time, mels) bool: 0 where the input was kept, 1 where it was removed and is predicted."""
    removed_image: Tensor
    """(batch, height, width) bool: 0 kept, 1 removed."""


def inpaint(
    model: CavMaeSync,
    audio: Tensor,
    image: Tensor,
    noise_audio: Tensor | None = None,
    noise_image: Tensor | None = None,
) -> Inpainting:
    """One pass of `model`, without gradients; arguments are those of its forward.

    `audio` is (batch, time, mels), `image` (batch, 3, height, width). A model with `norm_pix` predicts patches up to
    their mean and variance, which are then taken from the originals.
    """
    with torch.no_grad():
        output = model(audio, image, noise_audio, noise_image)
    filled_audio, removed_audio = _fill(
        model, spectrogram(audio), output.prediction_audio, output.mask_audio, model.config.audio_grid
    )
    filled_image, removed_image = _fill(
        model, image, output.prediction_image, output.mask_image, model.config.image_grid
    )
    return Inpainting(
        audio=filled_audio.squeeze(1).transpose(1, 2),
        image=filled_image,
        removed_audio=removed_audio.transpose(1, 2),
        removed_image=removed_image,
    )


def _fill(
    model: CavMaeSync, image: Tensor, prediction: Tensor, mask: Mask, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(batch, channels, height, width) with predictions at the removed patches, and (batch, height, width) of them.

    `prediction` is (batch, patches, values).
    """
    patch_size = model.config.patch_size
    patches = patchify(image, patch_size)  # (batch, patches, values)
    values = denormalise(prediction, patches) if model.config.norm_pix else prediction
    filled = torch.where(mask.removed.unsqueeze(-1), values, patches)
    removed = mask.removed.unsqueeze(-1).expand(-1, -1, patch_size**2)  # (batch, patches, patch * patch)
    return unpatchify(filled, patch_size, grid), unpatchify(removed, patch_size, grid).squeeze(1)
