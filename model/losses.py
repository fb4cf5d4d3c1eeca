"""The losses of pretraining, in float32 whatever precision the network runs in."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cavsync.model.config import ContrastiveDirection, ModelConfig

# Keeps a flat patch from being divided by zero (MAE's value).
PATCH_VARIANCE_EPS = 1e-6


@dataclass(frozen=True)
class Contrast:
    """The contrastive loss of a batch and its accuracy, both scalars."""

    loss: Tensor
    accuracy: Tensor
    """Fraction of queries that are most similar to their own partner, in the directions of the loss."""


def contrastive_loss(
    audio: Tensor,
    image: Tensor,
    temperature: float,
    direction: ContrastiveDirection,
    group_size: int | None = None,
) -> Contrast:
    """InfoNCE between two matrices of embeddings whose rows are partners, each (batch, dim).

    Embeddings of several levels, (batch, levels, dim), give the mean of the levels. Each row is compared with the
    `group_size` consecutive rows that it is one of, which divides the batch; None compares all rows with all. In a
    batch that is gathered from many processes, the rows of the others are further negatives.
    """
    size = group_size or len(audio)
    # Autocast would multiply in half precision, which costs two digits once divided by the temperature.
    with torch.autocast(audio.device.type, enabled=False):
        audio, image = (_groups(normalize(e.float(), dim=-1), size) for e in (audio, image))
        similarity = image @ audio.mT / temperature  # (groups, ..., images, audio segments)
        contrast = _classify(similarity)
        if direction == "one-way":
            return contrast
        other = _classify(similarity.mT)
        return Contrast((contrast.loss + other.loss) / 2, (contrast.accuracy + other.accuracy) / 2)


def _groups(embeddings: Tensor, size: int) -> Tensor:
    """(batch, ..., dim) -> (groups, ..., size, dim)."""
    return embeddings.reshape(-1, size, *embeddings.shape[1:]).movedim(1, -2)


def _classify(similarity: Tensor) -> Contrast:
    """Cross-entropy of each row of (..., queries, keys) over its columns; the diagonal is the right class."""
    log_probability = similarity.log_softmax(dim=-1).diagonal(dim1=-2, dim2=-1)  # (..., queries)
    is_right = similarity.argmax(dim=-1) == torch.arange(similarity.shape[-1], device=similarity.device)
    return Contrast(loss=-log_probability.mean(), accuracy=is_right.float().mean())


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of (batch, dim) tokens, over batch and channels; no gradient reaches the teacher's."""
    with torch.autocast(student.device.type, enabled=False):
        return (student.float() - teacher.detach().float()).square().mean()


def reconstruction_loss(prediction: Tensor, target: Tensor, removed: Tensor, norm_pix: bool) -> Tensor:
    """Mean squared error over the removed patches of a batch; 0 where none was removed.

    `prediction` and `target` are (batch, patches, values), `removed` is (batch, patches) bool: 0 keep, 1 remove.
    """
    target = _normalise(target.float()) if norm_pix else target.float()
    error = (prediction.float() - target).square().mean(dim=-1)  # (batch, patches)
    return (error * removed).sum() / removed.sum().clamp(min=1)


def _normalise(patches: Tensor) -> Tensor:
    """(..., values) -> (..., values) with mean 0 and sample variance 1."""
    # torch.var_mean takes five times as long on CPUs.
    patches = patches - patches.mean(dim=-1, keepdim=True)
    variance = patches.square().sum(dim=-1, keepdim=True) / (patches.shape[-1] - 1)
    return patches.div_((variance + PATCH_VARIANCE_EPS).sqrt())


def denormalise(values: Tensor, patches: Tensor) -> Tensor:
    """Undoes `norm_pix`: predicted (..., values) at the mean and deviation of the original `patches` (..., values)."""
    deviation = (patches.var(dim=-1, keepdim=True) + PATCH_VARIANCE_EPS).sqrt()
    return values * deviation + patches.mean(dim=-1, keepdim=True)


def total_loss(
    config: ModelConfig, reconstruction_audio: Tensor, reconstruction_image: Tensor, contrastive: Tensor
) -> Tensor:
    """The weighted sum that training minimises, of scalar () losses."""
    reconstruction = reconstruction_audio + reconstruction_image
    return config.reconstruction_weight * reconstruction + config.contrastive_weight * contrastive
