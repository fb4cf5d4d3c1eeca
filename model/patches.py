"""Patches: the squares that a spectrogram or a picture is cut into, always row by row."""

import torch
from torch import Tensor

from cavsync.model.errors import CheckpointError


def spectrogram(audio: Tensor) -> Tensor:
    """(batch, time, mels) as a one-channel picture, (batch, 1, mels, time): low frequencies are row 0."""
    return audio.transpose(1, 2).unsqueeze(1)


def patchify(picture: Tensor, patch_size: int) -> Tensor:
    """(batch, channels, height, width) as (batch, patches, values); values run by row, column, channel."""
    batch, channels, height, width = picture.shape
    rows, columns = height // patch_size, width // patch_size
    cells = picture.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch_size**2 * channels)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """(batch, patches, values) on a grid of (rows, columns) as (batch, channels, height, width)."""
    rows, columns = grid
    cells = patches.reshape(len(patches), rows, columns, patch_size, patch_size, -1).permute(0, 5, 1, 3, 2, 4)
    return cells.reshape(len(patches), -1, rows * patch_size, columns * patch_size)


# The tables of upstream's two repositories differ by 1.5e-6; a trained one by far more.
TOLERANCE = 1e-4


def position_table(dim: int, grid: tuple[int, int]) -> Tensor:
    """The codes of all patches of a grid of (rows, columns), shape (1, rows * columns, dim), row by row.

    The first half of the channels encodes the column (time, or x), the second the row (frequency, or y).
    """
    rows, columns = grid
    row = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float64).repeat(rows)
    table = torch.cat([_encode(column, dim // 2), _encode(row, dim // 2)], dim=1)
    return table.float().unsqueeze(0)


def moved_table(name: str, table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """The table of another grid; CheckpointError where the one of the `old` grid was trained."""
    dim = table.shape[-1]
    if not table.float().allclose(position_table(dim, old), atol=TOLERANCE):
        raise CheckpointError(f"it has trained positions ({name}), which fit {old} patches only, not {new}")
    return position_table(dim, new)


def _encode(coordinate: Tensor, dim: int) -> Tensor:
    """All sines, then all cosines of (tokens,) coordinates, shape (tokens, dim)."""
    exponent = torch.arange(dim // 2, dtype=torch.float64) / (dim // 2)
    # Wavelengths grow from 2 pi to 10000 * 2 pi, as in the first transformer.
    angle = torch.outer(coordinate, 10000.0**-exponent)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
