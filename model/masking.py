"""Which patches the encoder sees. All of it follows from the noise, so any mask can be drawn again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cavsync.model.config import AudioMaskMode, num_kept

# Of the mask ratio, the share that `time-freq` takes from each axis (upstream's constant).
TIME_FREQ_SHARE = 0.7


@dataclass(frozen=True)
class Mask:
    """A choice among the patches of each clip."""

    kept: Tensor
    """(batch, kept) indices of the patches the encoder sees, in the order it sees them."""
    restore: Tensor
    """(batch, patches) place of each patch in the sequence "kept patches, then removed ones"."""
    removed: Tensor
    """(batch, patches) bool: true where a patch is hidden from the encoder."""

    def pick(self, patches: Tensor) -> Tensor:
        """(batch, patches, dim) -> (batch, kept, dim)."""
        return take(patches, self.kept)

    def fill(self, tokens: Tensor, mask_token: Tensor) -> Tensor:
        """(batch, kept, dim) -> (batch, patches, dim) in place order, `mask_token` where a patch was removed."""
        batch, num_patches = self.restore.shape
        blanks = mask_token.expand(batch, num_patches - tokens.shape[1], -1)
        return take(torch.cat([tokens, blanks], dim=1), self.restore)


def draw_mask(noise: Tensor, ratio: float) -> Mask:
    """Keeps the patches with the least noise; (batch, patches) values."""
    order = noise.argsort(dim=1, stable=True)
    restore = order.argsort(dim=1)
    keep = num_kept(noise.shape[1], ratio)
    return Mask(kept=order[:, :keep], restore=restore, removed=restore >= keep)


def strike(noise: Tensor, grid: tuple[int, int], ratio: float, mode: AudioMaskMode) -> Tensor:
    """Noise in [0, 1) raised above 1 in whole rows (freq) or columns (time), so that these go first.

    `draw_mask` then removes single patches, or spares some of a struck line, until the ratio is met exactly.
    """
    if mode == "unstructured":
        return noise
    share = ratio * TIME_FREQ_SHARE if mode == "time-freq" else ratio
    cells = noise.reshape(-1, *grid)  # (batch, frequency, time)
    struck = torch.zeros_like(cells, dtype=torch.bool)
    # A line is as likely as any other to have the greatest mean, so no further draw is needed.
    if mode != "freq":
        struck = struck | _greatest(cells.mean(dim=1), share).unsqueeze(1)
    if mode != "time":
        struck = struck | _greatest(cells.mean(dim=2), share).unsqueeze(2)
    return (cells + struck).flatten(1)


def _greatest(values: Tensor, share: float) -> Tensor:
    """(batch, lines) bool: true at the greatest `share` of the values, rounded down."""
    rank = values.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < int(values.shape[1] * share)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """The tokens of (batch, tokens, dim) at (batch, taken) indices."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
