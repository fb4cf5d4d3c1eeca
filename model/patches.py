"""Patches: the squares that a spectrogram or a picture is cut into, always row by row."""

from torch import Tensor


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
