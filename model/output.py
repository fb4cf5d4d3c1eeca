"""Outputs of the model, with the tensors of every stage of a forward pass."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from cavsync.model.config import ModelConfig
from cavsync.model.losses import Contrast, contrastive_loss, total_loss
from cavsync.model.masking import Mask


@dataclass(frozen=True)
class Encoding:
    """One modality alone: its tokens after the joint blocks and its own norm."""

    global_token: Tensor
    """(batch, dim): the contrastive token, or the mean of the patches in a model without one."""
    patches: Tensor
    """(batch, rows, columns, dim), frequency by time or y by x; under a mask (batch, kept, dim)."""
    token_before_heads: Tensor | None = None
    """(batch, dim): the global token without the contrastive heads; None in a model that has none."""

    @property
    def distilled_token(self) -> Tensor:
        """(batch, dim): what distillation compares, the global token without the contrastive heads."""
        return self.global_token if self.token_before_heads is None else self.token_before_heads


@dataclass(frozen=True)
class Guidance:
    """What a teacher says on whole audio segments or images."""

    token: Tensor
    """(batch, dim): `Encoding.distilled_token` of the whole inputs."""
    priority: Tensor | None
    """(batch, patches): attention between the global token and each patch, in the order of the grid; None where none
    was asked for."""


@dataclass(frozen=True)
class Output:
    """One forward pass: the losses, scalars without weights except for the total, and what they were made from.

    The clips are compared when a loss that needs it is first read: a training that compares other clips than those of
    one pass does not pay for it.
    """

    config: ModelConfig
    """Of the model."""

    reconstruction_audio: Tensor
    reconstruction_image: Tensor

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

    @property
    def loss(self) -> Tensor:
        """The weighted sum."""
        reconstruction = self.reconstruction_audio, self.reconstruction_image
        return total_loss(self.config, *reconstruction, self.contrastive)

    @property
    def contrastive(self) -> Tensor:
        return self._contrast.loss

    @property
    def contrastive_accuracy(self) -> Tensor:
        return self._contrast.accuracy

    @cached_property
    def _contrast(self) -> Contrast:
        """Each clip of the batch among all of it."""
        config = self.config
        return contrastive_loss(
            self.embedding_audio, self.embedding_image, config.temperature, config.contrastive_direction
        )
