"""Proves that predictions replace removed patches at their positions, in the units of the audio and the image."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import tiny
from cavsync.model.losses import denormalise
from cavsync.model.patches import patchify, unpatchify
from cavsync.model.reconstruction import inpaint

SMALL = replace(
    tiny(),
    num_mels=32,
    audio_rows=64,
    image_size=48,
    embed_dim=24,
    num_heads=2,
    encoder_depth=1,
    decoder_dim=16,
    decoder_num_heads=2,
)


def build(**changes: Any) -> CavMaeSync:
    torch.manual_seed(0)
    return CavMaeSync(replace(SMALL, **changes))


def batch(num_clips: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    audio = 3 + 2 * torch.randn(num_clips, 64, 32, generator=generator)
    return audio, torch.randn(num_clips, 3, 48, 48, generator=generator)


def test_unpatchify_undoes_patchify() -> None:
    image = torch.randn(2, 3, 32, 48)
    assert torch.equal(unpatchify(patchify(image, 16), 16, (2, 3)), image)


@pytest.mark.parametrize("norm_pix", [True, False])
@pytest.mark.parametrize("global_tokens", ["none", "contrastive", "per-task"])
def test_kept_patches_stay_and_removed_ones_are_predicted(norm_pix: bool, global_tokens: Any) -> None:
    model, (audio, image) = build(norm_pix=norm_pix, global_tokens=global_tokens), batch()
    filled = inpaint(model, audio, image)
    assert (filled.audio.shape, filled.image.shape) == (audio.shape, image.shape)
    assert (filled.removed_audio.shape, filled.removed_image.shape) == (audio.shape, (2, 48, 48))
    kept = ~filled.removed_audio
    assert torch.equal(filled.audio[kept], audio[kept])
    assert not torch.isclose(filled.audio[~kept], audio[~kept]).all()
    kept = ~filled.removed_image.unsqueeze(1).expand_as(image)
    assert torch.equal(filled.image[kept], image[kept])


def test_noise_decides_which_patches_are_removed() -> None:
    model, (audio, image) = build(mask_ratio_audio=0.5, mask_ratio_image=4 / 9), batch()
    noise_audio = torch.tensor([0.0, 1.0]).repeat(2, 4)  # columns 1 and 3 of both rows of 4
    noise_image = torch.linspace(1, 0, 9).repeat(2, 1)  # the first four patches, row by row
    filled = inpaint(model, audio, image, noise_audio, noise_image)
    in_time = filled.removed_audio.reshape(2, 4, 16, 32).all(dim=(2, 3))
    assert in_time.tolist() == [[False, True, False, True]] * 2
    patches = filled.removed_image.reshape(2, 3, 16, 3, 16).all(dim=(2, 4)).flatten(1)
    assert patches[0].tolist() == [True] * 4 + [False] * 5


def test_without_norm_pix_the_prediction_is_the_image() -> None:
    model, (audio, image) = build(norm_pix=False), batch()
    noise = torch.rand(2, 8), torch.rand(2, 9)
    filled, output = inpaint(model, audio, image, *noise), model(audio, image, *noise)
    predicted = unpatchify(output.prediction_image, 16, (3, 3))
    removed = filled.removed_image.unsqueeze(1).expand_as(image)
    torch.testing.assert_close(filled.image[removed], predicted[removed])


def test_with_norm_pix_a_perfect_prediction_is_the_original() -> None:
    patches = 5 + 3 * torch.randn(2, 4, 768)
    normalised = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(denormalise(normalised, patches), patches)


def test_inpainting_builds_no_graph() -> None:
    filled = inpaint(build(), *batch())
    assert not filled.audio.requires_grad
    assert not filled.image.requires_grad
