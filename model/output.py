"""What the model answers. Every field is a tensor, so that each stage of a forward can be looked at."""

from dataclasses import dataclass

from torch import Tensor

from cavsync.model.masking import Mask


@dataclass(frozen=True)
class Encoding:
    """What one modality says by itself, after its own norm."""

    global_token: Tensor
    """(batch, dim): the contrastive token, or the mean of the patches in a model without one."""
    patches: Tensor
    """(batch, rows, columns, dim), frequency by time or y by x; under a mask (batch, kept, dim)."""


@dataclass(frozen=True)
class Output:
    """One forward pass: the losses, unweighted except for the total, and what they were made from."""

    loss: Tensor
    reconstruction_audio: Tensor
    reconstruction_image: Tensor
    contrastive: Tensor
    contrastive_accuracy: Tensor

    embedding_audio: Tensor
    """(batch, dim), or (batch, 2, dim) with `global_local_losses`: what `contrastive_loss` takes."""
    embedding_image: Tensor

    mask_audio: Mask
    mask_image: Mask
    encoding_audio: Encoding
    encoding_image: Encoding
    latent: Tensor
    """(batch, kept audio + kept image, dim): the patches of both after the joint blocks, for the decoder."""
    prediction_audio: Tensor
    """(batch, patches, patch * patch), in units of the normalised patch under `norm_pix`."""
    prediction_image: Tensor
    """(batch, patches, patch * patch * 3)."""
