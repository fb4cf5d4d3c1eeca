"""Proves that masks follow from their noise, remove exactly the mask ratio, and take whole rows or columns in structured modes."""

import math

import pytest
import torch

from cavsync.model.config import AudioMaskMode
from cavsync.model.masking import draw_mask, mask_lines, sampling_scores

GRID = (8, 26)  # frequency, time: the released model's 4.16 s


def uniform(num_clips: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(num_clips, GRID[0] * GRID[1], generator=torch.Generator().manual_seed(seed))


def test_the_patches_with_least_noise_are_kept_in_order_of_their_noise() -> None:
    mask = draw_mask(torch.tensor([[0.4, 0.1, 0.3, 0.2]]), ratio=0.5)
    assert mask.kept.tolist() == [[1, 3]]
    assert mask.removed.tolist() == [[True, False, True, False]]


def test_equal_noise_keeps_the_first_patches() -> None:
    assert draw_mask(torch.zeros(1, 100), ratio=0.75).kept.tolist() == [list(range(25))]


def test_filling_puts_every_kept_patch_back_to_its_position() -> None:
    patches = torch.randn(3, 208, 5)
    mask = draw_mask(uniform(3), ratio=0.75)
    filled = mask.fill(mask.pick(patches), torch.full((1, 1, 5), 7.0))
    removed = mask.removed.unsqueeze(-1)
    torch.testing.assert_close(filled, torch.where(removed, 7.0, patches), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["unstructured", "time", "freq", "time-freq"])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75, 0.9])
def test_every_mode_removes_exactly_the_mask_ratio(mode: AudioMaskMode, ratio: float) -> None:
    mask = draw_mask(mask_lines(uniform(4), GRID, ratio, mode), ratio)
    assert mask.removed.sum(dim=1).tolist() == [208 - int(208 * (1 - ratio))] * 4


def test_time_masks_remove_whole_columns() -> None:
    removed = draw_mask(mask_lines(uniform(4), GRID, 0.75, "time"), 0.75).removed.reshape(4, *GRID)
    assert (removed.all(dim=1).sum(dim=1) >= 19).all()  # int(26 * 0.75)


def test_frequency_masks_remove_whole_rows() -> None:
    removed = draw_mask(mask_lines(uniform(4), GRID, 0.75, "freq"), 0.75).removed.reshape(4, *GRID)
    assert (removed.all(dim=2).sum(dim=1) == 6).all()  # int(8 * 0.75)


def test_time_frequency_masks_remove_columns_and_rows() -> None:
    removed = draw_mask(mask_lines(uniform(4), GRID, 0.9, "time-freq"), 0.9).removed.reshape(4, *GRID)
    assert (removed.all(dim=1).sum(dim=1) >= 16).all()  # int(26 * 0.9 * 0.7)
    assert (removed.all(dim=2).sum(dim=1) >= 5).all()  # int(8 * 0.9 * 0.7)


@pytest.mark.parametrize("mode", ["unstructured", "time", "freq", "time-freq"])
def test_no_patch_is_favoured(mode: AudioMaskMode) -> None:
    removed = draw_mask(mask_lines(uniform(4000), GRID, 0.75, mode), 0.75).removed
    fraction = removed.float().mean(dim=0)  # of the clips, for each patch
    # Six standard deviations of a fraction of 0.75 among 4000 draws.
    assert (fraction - 0.75).abs().max() < 6 * (0.75 * 0.25 / 4000) ** 0.5


def test_the_patches_of_highest_priority_are_kept_and_the_first_of_equal_ones() -> None:
    priority = torch.tensor([[0.2, 0.9, 0.2, 0.5, 0.2, 0.2]])
    assert draw_mask(-priority, ratio=0.5).kept.tolist() == [[1, 3, 0]]
    # 104 of 208, rounded down as everywhere.
    assert draw_mask(-uniform(3), ratio=0.5).kept.shape == (3, 104)


def test_sampling_scores_add_gumbel_noise_to_the_log_of_softmax() -> None:
    priority, noise = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.9, 0.1]])
    total = sum(math.exp(value) for value in (2.0, 0.0, 1.0))
    expected = [
        -(math.log(math.exp(value) / total) - math.log(-math.log(drawn)))
        for value, drawn in zip((2.0, 0.0, 1.0), (0.5, 0.9, 0.1), strict=True)
    ]
    torch.testing.assert_close(sampling_scores(priority, noise), torch.tensor([expected]))
    # Noise of 0 can be drawn: such a patch is kept last.
    assert draw_mask(sampling_scores(priority, torch.tensor([[0.0, 0.9, 0.1]])), 0.5).kept.tolist() == [[1]]


def test_sampled_patches_follow_softmax_of_their_priority() -> None:
    draws = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0))
    priority = torch.tensor([[2.0, 0.0, 1.0]]).log_softmax(dim=1)
    first = draw_mask(sampling_scores(priority.expand(20_000, 3), draws), 0.6).kept[:, 0]
    counted = first.bincount(minlength=3) / 20_000
    torch.testing.assert_close(counted, priority[0].exp(), atol=0.015, rtol=0)
