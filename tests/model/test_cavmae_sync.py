"""Proves the shapes of the model's outputs, that every parameter is trained, and that upstream's defects are gone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.config import ModelConfig, tiny
from cavsync.model.output import Output

# Small enough for a forward in a few milliseconds: 2 x 8 audio patches, 2 x 2 image patches.
SMALL = replace(
    tiny(),
    num_mels=32,
    audio_rows=128,
    image_size=32,
    embed_dim=24,
    num_heads=2,
    encoder_depth=1,
    decoder_dim=16,
    decoder_num_heads=2,
)
VARIANTS: dict[str, dict[str, Any]] = {
    "as released": {},
    "no global token": {"global_tokens": "none"},
    "a token per task": {"global_tokens": "per-task"},
    "no registers": {"num_registers": 0},
    "kept registers": {"keep_registers": True},
    "kept registers, a token per task": {"keep_registers": True, "global_tokens": "per-task"},
    "contrastive heads": {"contrastive_head_depth": 2},
    "three joint blocks": {"joint_depth": 3},
    "global and local": {"global_local_losses": True},
    "global and local, a token per task": {"global_local_losses": True, "global_tokens": "per-task"},
    "one way, plain pixels": {"contrastive_direction": "one-way", "norm_pix": False},
    "time and frequency masks": {"audio_mask_mode": "time-freq"},
}


def build(**changes: Any) -> CavMaeSync:
    torch.manual_seed(0)
    return CavMaeSync(replace(SMALL, **changes))


def batch(config: ModelConfig, num_clips: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(num_clips, config.audio_rows, config.num_mels, generator=generator)
    return audio, torch.randn(num_clips, 3, config.image_size, config.image_size, generator=generator)


def noises(config: ModelConfig, num_clips: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    patches = (config.num_audio_patches, config.num_image_patches)
    return tuple(torch.rand(num_clips, n, generator=generator) for n in patches)  # type: ignore[return-value]


def run(model: CavMaeSync, num_clips: int = 3) -> Output:
    output: Output = model(*batch(model.config, num_clips), *noises(model.config, num_clips))
    return output


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_gradient_reaches_every_parameter_that_is_trained(variant: str) -> None:
    model = build(**VARIANTS[variant])
    run(model).loss.backward()
    idle = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert idle == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_have_the_shapes_of_the_contract(variant: str) -> None:
    model = build(**VARIANTS[variant])
    audio, image = batch(model.config)
    a, v, output = model.encode_audio(audio), model.encode_image(image), run(model)
    assert (a.global_token.shape, a.patches.shape) == ((3, 24), (3, 2, 8, 24))
    assert (v.global_token.shape, v.patches.shape) == ((3, 24), (3, 2, 2, 24))
    assert (output.prediction_audio.shape, output.prediction_image.shape) == ((3, 16, 256), (3, 4, 768))
    assert output.latent.shape == (3, 4 + 1, 24)
    assert output.encoding_audio.patches.shape == (3, 4, 24)
    for scalar in (output.loss, output.reconstruction_audio, output.reconstruction_image, output.contrastive):
        assert scalar.shape == ()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clip_alone_has_the_outputs_that_it_has_in_a_batch(variant: str) -> None:
    model = build(**VARIANTS[variant])
    audio, image = batch(model.config)
    noise_audio, noise_image = noises(model.config)
    alone = model(audio[:1], image[:1], noise_audio[:1], noise_image[:1])
    together = run(model)
    assert torch.isfinite(alone.loss)
    torch.testing.assert_close(alone.prediction_audio, together.prediction_audio[:1])
    torch.testing.assert_close(alone.embedding_image, together.embedding_image[:1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_nothing_masked_the_embeddings_are_those_of_the_encoders(variant: str) -> None:
    model = build(**VARIANTS[variant], mask_ratio_audio=0.0, mask_ratio_image=0.0)
    audio, image = batch(model.config)
    output = run(model)
    torch.testing.assert_close(output.encoding_audio.global_token, model.encode_audio(audio).global_token)
    torch.testing.assert_close(output.encoding_image.global_token, model.encode_image(image).global_token)


def test_a_view_of_the_kept_patches_is_what_training_encodes() -> None:
    model = build()
    audio, image = batch(model.config)
    output = run(model)
    encoded_audio = model.encode_audio(audio, kept=output.mask_audio.kept)
    encoded_image = model.encode_image(image, kept=output.mask_image.kept)
    torch.testing.assert_close(encoded_audio.global_token, output.encoding_audio.global_token)
    torch.testing.assert_close(encoded_image.patches, output.encoding_image.patches)


@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_without_a_reconstruction_are_those_of_the_forward(variant: str) -> None:
    model = build(**VARIANTS[variant])
    output = run(model)
    audio, image = model.contrastive_embeddings(*batch(model.config), *noises(model.config))
    torch.testing.assert_close(audio, output.embedding_audio)
    torch.testing.assert_close(image, output.embedding_image)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_embedding_is_the_global_token_of_the_encoding(variant: str) -> None:
    """Of whole inputs and of views, up to the order of sums."""
    model = build(**VARIANTS[variant])
    audio, image = batch(model.config)
    kept = torch.tensor([[0, 3], [2, 1], [1, 2]])
    for embedding, encoding in (
        (model.audio_embedding(audio), model.encode_audio(audio)),
        (model.image_embedding(image), model.encode_image(image)),
        (model.image_embedding(image, kept), model.encode_image(image, kept)),
        (model.audio_embedding(audio[:1], kept), model.encode_audio(audio[:1], kept)),
    ):
        torch.testing.assert_close(embedding, encoding.global_token, atol=2e-6, rtol=0)


def test_an_embedding_takes_less_work_than_an_encoding() -> None:
    """The second of two blocks computes one token of 17; keys and values of all are a sixth of its work."""
    model = build(image_size=64)
    image = batch(model.config)[1]
    work = []
    for encode in (model.encode_image, model.image_embedding):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encode(image)
        counts = counter.get_flop_counts()["Global"]
        work.append(counts[torch.ops.aten.addmm])
    assert work[1] < 0.7 * work[0]


def test_one_image_serves_many_views() -> None:
    model = build()
    image = batch(model.config)[1][:1]
    views = model.encode_image(image, kept=torch.tensor([[0, 1], [2, 3], [1, 2]]))
    alone = model.encode_image(image, kept=torch.tensor([[2, 3]]))
    assert views.patches.shape == (3, 2, 24)
    torch.testing.assert_close(views.global_token[1:2], alone.global_token)


def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    output = run(build(reconstruction_weight=2.0, contrastive_weight=0.5))
    parts = 2 * (output.reconstruction_audio + output.reconstruction_image) + 0.5 * output.contrastive
    torch.testing.assert_close(output.loss, parts)


@pytest.mark.parametrize("weight", ["reconstruction_weight", "contrastive_weight"])
def test_a_weight_of_zero_leaves_the_other_part(weight: str) -> None:
    model = build(**{weight: 0.0})
    output = run(model)
    output.loss.backward()
    reconstruction = output.reconstruction_audio + output.reconstruction_image
    torch.testing.assert_close(output.loss, output.contrastive if weight[0] == "r" else reconstruction)


def test_joint_blocks_are_chained() -> None:
    model = build(joint_depth=2)
    audio, image = batch(model.config)
    before = model.encode_audio(audio).global_token, model.encode_image(image).global_token, run(model).latent
    with torch.no_grad():
        model.blocks_u[0].mlp.fc2.weight.add_(0.1 * torch.randn_like(model.blocks_u[0].mlp.fc2.weight))
    after = model.encode_audio(audio).global_token, model.encode_image(image).global_token, run(model).latent
    for old, new in zip(before, after, strict=True):
        assert not torch.allclose(old, new)


@pytest.mark.parametrize(("changes", "grid"), [({"audio_rows": 304}, (2, 19)), ({"num_mels": 48}, (3, 8))])
def test_any_whole_number_of_audio_patches_works(changes: dict[str, Any], grid: tuple[int, int]) -> None:
    model = build(**changes, audio_mask_mode="time")
    assert model.encode_audio(batch(model.config)[0]).patches.shape == (3, *grid, 24)
    assert torch.isfinite(run(model).loss)


@pytest.mark.parametrize(("changes", "side"), [({"image_size": 80}, 5), ({"image_size": 16}, 1)])
def test_any_whole_number_of_image_patches_works(changes: dict[str, Any], side: int) -> None:
    model = build(**changes, mask_ratio_image=0.0)
    assert model.encode_image(batch(model.config)[1]).patches.shape == (3, side, side, 24)
    assert torch.isfinite(run(model).loss)


def test_a_smaller_patch_works() -> None:
    assert torch.isfinite(run(build(patch_size=8)).loss)


def test_a_patch_of_the_grid_lies_where_the_input_does() -> None:
    model = build()
    audio, image = batch(model.config)
    tokens_audio, tokens_image = model.patch_embed_a.proj.weight, model.patch_embed_v.proj.weight
    # Row 1, column 5 of the spectrogram: mels 16-31, rows 80-95; row 1, column 0 of the image.
    audio_patch = (tokens_audio[:, 0] * audio[0, 80:96, 16:32].T).sum(dim=(1, 2))
    image_patch = (tokens_image * image[0, :, 16:32, 0:16]).sum(dim=(1, 2, 3))
    position_audio = model.pos_embed_a[0, 1 * 8 + 5] + model.modality_a[0, 0] + model.patch_embed_a.proj.bias
    position_image = model.pos_embed_v[0, 1 * 2 + 0] + model.modality_v[0, 0] + model.patch_embed_v.proj.bias
    torch.testing.assert_close(model._embed_audio(audio)[0, 1 * 8 + 5], audio_patch + position_audio)
    torch.testing.assert_close(model._embed_image(image)[0, 1 * 2 + 0], image_patch + position_image)


def test_the_tokens_of_each_task_stay_with_their_task() -> None:
    model = build(global_tokens="per-task")
    for block in [
        *model.blocks_a,
        *model.blocks_v,
    ]:  # in the encoders the two do meet, so keep them apart there
        torch.nn.init.zeros_(block.attn.proj.weight)
    output = run(model)
    contrastive, own = model.cls_token_a, model.cls_token_reconstruction_a
    assert_moved_by(output.embedding_audio, moved_by=contrastive, not_by=own)
    assert_moved_by(output.latent, moved_by=own, not_by=contrastive)


def assert_moved_by(result: Tensor, moved_by: Tensor, not_by: Tensor) -> None:
    # Cubes: the sum and the square sum of normalised channels are constant.
    cubes = result.pow(3).sum()
    yes, no = torch.autograd.grad(cubes, [moved_by, not_by], allow_unused=True, retain_graph=True)
    assert yes is not None
    assert yes.any()
    assert no is None or not no.any()


def test_the_same_noise_gives_the_same_output() -> None:
    model = build()
    torch.testing.assert_close(run(model).loss, run(model).loss, rtol=0, atol=0)
    audio, image = batch(model.config)
    assert model(audio, image).loss != model(audio, image).loss  # new draws


def test_position_tables_are_not_trained() -> None:
    frozen = {name for name, parameter in build().named_parameters() if not parameter.requires_grad}
    assert frozen == {"pos_embed_a", "pos_embed_v", "decoder_pos_embed_a", "decoder_pos_embed_v"}


def test_initial_values_are_upstreams() -> None:
    torch.manual_seed(0)
    model = CavMaeSync(replace(tiny(), embed_dim=192))
    assert model.register_tokens.std().item() == pytest.approx(1.0, rel=0.1)
    assert model.cls_token_a.std().item() == pytest.approx(0.02, rel=0.2)
    qkv = model.blocks_a[0].attn.qkv
    assert qkv.weight.abs().max().item() == pytest.approx((6 / (192 + 3 * 192)) ** 0.5, rel=0.01)
    assert not qkv.bias.any()
    patch = model.patch_embed_v.proj.weight
    assert patch.abs().max().item() == pytest.approx((6 / (192 + 768)) ** 0.5, rel=0.01)
    assert {module.eps for module in model.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-5}


def test_bfloat16_autocast_stays_near_full_precision() -> None:
    model = build()
    full = run(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = run(model)
    assert mixed.loss.dtype == torch.float32
    torch.testing.assert_close(mixed.loss, full.loss, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("audio", "image", "message"),
    [
        ((3, 64, 32), (3, 3, 32, 32), r"audio has shape \(3, 64, 32\), .*\(batch, 128, 32\).*audio_rows="),
        ((128, 32), (3, 3, 32, 32), r"audio has shape \(128, 32\)"),
        (
            (3, 128, 32),
            (3, 3, 48, 48),
            r"image has shape \(3, 3, 48, 48\), .*\(batch, 3, 32, 32\).*image_size=",
        ),
    ],
)
def test_an_input_of_another_size_is_refused_with_the_right_one(
    audio: tuple[int, ...], image: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(audio), torch.zeros(image))


def test_noise_of_another_size_is_refused_with_the_right_one() -> None:
    model = build()
    with pytest.raises(ValueError, match=r"noise_image has shape \(3, 9\), the patches need \(3, 4\)"):
        model(*batch(model.config), noise_image=torch.zeros(3, 9))


def test_audio_and_images_of_different_batches_are_refused() -> None:
    audio, image = batch(SMALL)
    with pytest.raises(ValueError, match="2 audio segments came with 3 images"):
        build()(audio[:2], image)
