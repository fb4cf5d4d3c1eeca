"""Patches of spectrograms and images, in row-major order, and their fixed position embeddings."""

import torch
from torch import Tensor, nn

from cavsync.model.errors import CheckpointError


def spectrogram(audio: Tensor) -> Tensor:
    """(batch, time, mels) -> a one-channel image, (batch, 1, mels, time), with the lowest frequency in row 0."""
    return audio.transpose(1, 2).unsqueeze(1)


def patchify(image: Tensor, patch_size: int) -> Tensor:
    """(batch, channels, height, width) -> (batch, patches, values); values are in order (row, column, channel)."""
    batch, channels, height, width = image.shape
    rows, columns = height // patch_size, width // patch_size
    cells = image.reshape(batch, channels, rows, patch_size, columns, patch_size)
    cells = cells.permute(0, 2, 4, 3, 5, 1)  # (batch, rows, columns, patch row, patch column, channels)
    return cells.reshape(batch, rows * columns, patch_size**2 * channels)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """(batch, patches, values) on a grid of (rows, columns) -> (batch, channels, height, width)."""
    rows, columns = grid
    cells = patches.reshape(len(patches), rows, columns, patch_size, patch_size, -1)
    cells = cells.permute(0, 5, 1, 3, 2, 4)  # (batch, channels, rows, patch row, columns, patch column)
    return cells.reshape(len(patches), -1, rows * patch_size, columns * patch_size)


# The tables of upstream's two repositories differ by 1.5e-6, a trained one by far more.
TABLE_TOLERANCE = 1e-4


def position_table(dim: int, grid: tuple[int, int]) -> Tensor:
    """Sine-cosine position embeddings of a grid of (rows, columns): (1, rows * columns, dim), row-major.

    The first half of the channels encodes the column (time, or x), the second the row (frequency, or y).
    """
    rows, columns = grid
    row = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float64).repeat(rows)
    table = torch.cat([_sine_cosine(column, dim // 2), _sine_cosine(row, dim // 2)], dim=1)
    return table.float().unsqueeze(0)  # (1, rows * columns, dim)


def frozen_table(dim: int, grid: tuple[int, int]) -> nn.Parameter:
    """The position table of a grid as a parameter that files hold and that is not trained: (1, rows * columns, dim)."""
    # The meta device computes nothing, and takes half of a model's construction to do so.
    is_meta = torch.get_default_device().type == "meta"
    table = torch.empty(1, grid[0] * grid[1], dim) if is_meta else position_table(dim, grid)
    return nn.Parameter(table, requires_grad=False)


def resized_table(name: str, table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """The table (1, patches, dim) of the `new` grid for one of the `old` grid, each grid (rows, columns).

    CheckpointError where the old table was trained, and so follows no formula.
    """
    dim = table.shape[-1]
    if not table.float().allclose(position_table(dim, old), atol=TABLE_TOLERANCE):
        raise CheckpointError(f"it has trained positions ({name}), which fit {old} patches only, not {new}")
    return position_table(dim, new)


def _sine_cosine(coordinate: Tensor, dim: int) -> Tensor:
    """All sines, then all cosines of coordinates: (tokens,) -> (tokens, dim)."""
    exponent = torch.arange(dim // 2, dtype=torch.float64) / (dim // 2)
    # Wavelengths grow from 2 pi to 10000 * 2 pi, as in the first transformer.
    angle = torch.outer(coordinate, 10000.0**-exponent)  # (tokens, dim / 2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
