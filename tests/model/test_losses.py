"""Proves the losses against arithmetic done by hand, and that they hold in batches of any composition."""

import pytest
import torch

from cavsync.model.config import tiny
from cavsync.model.losses import contrastive_loss, distillation_loss, reconstruction_loss, total_loss
from cavsync.model.patches import patchify, spectrogram


def test_the_one_way_loss_classifies_each_image_over_the_audio_segments() -> None:
    audio = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    image = torch.tensor([[3.0, 0.0], [1.0, 1.0]])  # the second is as similar to either audio segment
    contrast = contrastive_loss(audio, image, 1.0, "one-way")
    sure = torch.log(torch.exp(torch.tensor(1.0)) + 1) - 1
    even = torch.log(torch.tensor(2.0))
    torch.testing.assert_close(contrast.loss, (sure + even) / 2)


def test_the_two_way_loss_is_the_mean_of_both_ways() -> None:
    audio, image = torch.randn(2, 6, 8).unbind()
    both = contrastive_loss(audio, image, 0.05, "two-way")
    one, other = (contrastive_loss(*pair, 0.05, "one-way") for pair in ((audio, image), (image, audio)))
    torch.testing.assert_close(both.loss, (one.loss + other.loss) / 2)
    torch.testing.assert_close(both.accuracy, (one.accuracy + other.accuracy) / 2)


def test_levels_are_averaged() -> None:
    audio, image = torch.randn(2, 6, 2, 8).unbind()
    levels = [contrastive_loss(audio[:, i], image[:, i], 0.05, "two-way").loss for i in range(2)]
    together = contrastive_loss(audio, image, 0.05, "two-way").loss
    torch.testing.assert_close(together, torch.stack(levels).mean())


def test_the_scale_of_an_embedding_does_not_matter() -> None:
    audio, image = torch.randn(2, 6, 8).unbind()
    plain, scaled = (contrastive_loss(audio * s, image, 0.05, "one-way").loss for s in (1, 50))
    torch.testing.assert_close(plain, scaled)


def test_accuracy_counts_the_partners_found() -> None:
    image = torch.eye(4)
    audio = torch.eye(4)[[0, 1, 3, 2]]
    assert contrastive_loss(audio, image, 0.05, "two-way").accuracy.item() == 0.5


def test_a_single_pair_has_nothing_to_be_wrong_about() -> None:
    contrast = contrastive_loss(torch.randn(1, 8), torch.randn(1, 8), 0.05, "two-way")
    assert (contrast.loss.item(), contrast.accuracy.item()) == (0.0, 1.0)


def test_half_precision_networks_are_compared_in_full_precision() -> None:
    audio, image = torch.randn(2, 16, 8).unbind()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = contrastive_loss(audio, image, 0.05, "two-way").loss
    torch.testing.assert_close(mixed, contrastive_loss(audio, image, 0.05, "two-way").loss, rtol=0, atol=0)


def test_only_removed_patches_count() -> None:
    prediction, target = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]]])
    removed = torch.tensor([[True, False]])
    assert reconstruction_loss(prediction, target, removed, norm_pix=False).item() == pytest.approx(14 / 3)


def test_normalised_patches_have_unit_sample_variance() -> None:
    target = torch.randn(2, 4, 256) * 9 + 5
    removed = torch.ones(2, 4, dtype=torch.bool)
    loss = reconstruction_loss(torch.zeros(2, 4, 256), target, removed, norm_pix=True)
    assert loss.item() == pytest.approx(255 / 256)


def test_a_flat_patch_has_no_infinite_target() -> None:
    removed = torch.ones(1, 1, dtype=torch.bool)
    loss = reconstruction_loss(torch.zeros(1, 1, 256), torch.full((1, 1, 256), 3.0), removed, norm_pix=True)
    assert loss.item() == 0.0


def test_without_removed_patches_there_is_no_reconstruction_loss() -> None:
    removed = torch.zeros(1, 2, dtype=torch.bool)
    assert (
        reconstruction_loss(torch.ones(1, 2, 3), torch.zeros(1, 2, 3), removed, norm_pix=False).item() == 0.0
    )


def test_the_total_weighs_the_parts() -> None:
    parts = (torch.tensor(1.0), torch.tensor(2.0), torch.tensor(10.0))
    assert total_loss(tiny(), *parts).item() == 13.0


def test_patches_are_cut_row_by_row_with_the_channel_fastest() -> None:
    image = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6)
    patches = patchify(image, 2)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 4].tolist() == [14, 38, 15, 39, 20, 44, 21, 45]  # rows 2-3, columns 2-3


def test_the_first_row_of_a_spectrogram_is_the_lowest_frequency() -> None:
    audio = torch.randn(2, 32, 128)
    torch.testing.assert_close(spectrogram(audio)[:, 0, 5], audio[:, :, 5])


def test_distillation_is_the_mean_squared_difference_and_trains_the_student_alone() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [3.0, 0.0]], requires_grad=True)
    loss = distillation_loss(student, teacher)
    assert loss.item() == (4 + 9) / 4
    loss.backward()
    assert student.grad.tolist() == [[0.0, 1.0], [-1.5, 0.0]]
    assert teacher.grad is None
    assert distillation_loss(student, student).item() == 0


def test_distillation_is_in_float32_under_autocast() -> None:
    student, teacher = torch.randn(2, 4, 8).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        loss = distillation_loss(student.bfloat16(), teacher)
    assert loss.dtype == torch.float32
