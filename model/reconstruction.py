"""What the model believes behind the patches that it does not see, as sounds and pictures to look at."""

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
    """(batch, time, mels) bool: true where the prediction stands."""
    removed_image: Tensor
    """(batch, height, width) bool."""


def inpaint(
    model: CavMaeSync,
    audio: Tensor,
    image: Tensor,
    noise_audio: Tensor | None = None,
    noise_image: Tensor | None = None,
) -> Inpainting:
    """One pass of `model`, without gradients; arguments are those of its forward.

    The patches with the least noise are kept, as many as the mask ratios leave. A model with `norm_pix` predicts
    patches up to their brightness and contrast, which are then taken from the originals.
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
    model: CavMaeSync, picture: Tensor, prediction: Tensor, mask: Mask, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(batch, channels, height, width) with predictions where patches were removed, and where that is."""
    patch_size = model.config.patch_size
    patches = patchify(picture, patch_size)
    values = denormalise(prediction, patches) if model.config.norm_pix else prediction
    filled = torch.where(mask.removed.unsqueeze(-1), values, patches)
    removed = mask.removed.unsqueeze(-1).expand(-1, -1, patch_size**2)
    return unpatchify(filled, patch_size, grid), unpatchify(removed, patch_size, grid).squeeze(1)
