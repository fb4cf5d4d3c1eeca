"""Random masking: noise decides which patches the encoder sees, so the same noise gives the same mask again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cavsync.model.config import AudioMaskMode, num_kept

# Fraction of the mask ratio that `time-freq` removes along each axis (upstream's constant).
TIME_FREQ_FRACTION = 0.7


@dataclass(frozen=True)
class Mask:
    """Which patches of each clip the encoder sees."""

    kept: Tensor
    """(batch, kept) indices of the patches the encoder sees, in the order it sees them."""
    restore: Tensor
    """(batch, patches) position of each patch in the sequence "kept patches, then removed ones"."""
    removed: Tensor
    """(batch, patches) bool: false (0) where a patch is kept, true (1) where it is removed."""

    def pick(self, patches: Tensor) -> Tensor:
        """The kept patches: (batch, patches, dim) -> (batch, kept, dim)."""
        return take(patches, self.kept)

    def fill(self, tokens: Tensor, mask_token: Tensor) -> Tensor:
        """Tokens of the kept patches at their grid positions, `mask_token` (1, 1, dim) at the removed ones.

        (batch, kept, dim) -> (batch, patches, dim).
        """
        batch, num_patches = self.restore.shape
        num_removed = num_patches - tokens.shape[1]
        shuffled = torch.cat([tokens, mask_token.expand(batch, num_removed, -1)], dim=1)
        return take(shuffled, self.restore)


def draw_mask(noise: Tensor, ratio: float) -> Mask:
    """Keeps the patches with the least of the (batch, patches) noise and removes the fraction `ratio`."""
    order = noise.argsort(dim=1, stable=True)
    restore = order.argsort(dim=1)
    keep = num_kept(noise.shape[1], ratio)
    return Mask(kept=order[:, :keep], restore=restore, removed=restore >= keep)


def sampling_scores(priority: Tensor, noise: Tensor) -> Tensor:
    """Scores by which `draw_mask` keeps patches drawn without replacement by softmax of their priority (Gumbel-top-k).

    `priority` and `noise`, uniform in [0, 1), are (batch, patches), and so are the scores.
    """
    gumbel = -torch.log(-torch.log(noise))
    return -(priority.log_softmax(dim=1) + gumbel)


def mask_lines(noise: Tensor, grid: tuple[int, int], ratio: float, mode: AudioMaskMode) -> Tensor:
    """Structured masking: the (batch, patches) noise in [0, 1), raised by 1 in whole lines of the grid.

    `grid` is (frequency, time). Lines are rows (freq), columns (time) or both (time-freq); `draw_mask` removes
    them first. It then removes single patches, or keeps some of a line, until the ratio is met exactly.
    """
    if mode == "unstructured":
        return noise
    line_ratio = ratio * TIME_FREQ_FRACTION if mode == "time-freq" else ratio
    cells = noise.reshape(-1, *grid)  # (batch, frequency, time)
    in_line = torch.zeros_like(cells, dtype=torch.bool)  # (batch, frequency, time): 0 elsewhere, 1 to remove
    # A line is as likely as any other to have the greatest mean, so no further draw is needed.
    if mode != "freq":
        in_line = in_line | _greatest(cells.mean(dim=1), line_ratio).unsqueeze(1)  # (batch, 1, time)
    if mode != "time":
        in_line = in_line | _greatest(cells.mean(dim=2), line_ratio).unsqueeze(2)  # (batch, frequency, 1)
    return (cells + in_line).flatten(1)  # (batch, patches)


def _greatest(values: Tensor, fraction: float) -> Tensor:
    """(batch, lines) bool: true at the greatest `fraction` of the (batch, lines) values, rounded down."""
    rank = values.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < int(values.shape[1] * fraction)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens at the given positions: (batch, tokens, dim) at (batch, taken) indices -> (batch, taken, dim)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
