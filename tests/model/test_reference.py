"""Proves that any configuration, not the released ones alone, computes what upstream's graph does, within 1e-5, and that where
their code is at fault it is known by how much ours differs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.documents.pages import ROOT
from support.reference import reference_model as reference
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.config import ModelConfig, sync_base

SMALL = replace(
    sync_base(),
    image_size=64,
    embed_dim=24,
    num_heads=2,
    encoder_depth=2,
    decoder_dim=16,
    decoder_depth=2,
    decoder_num_heads=4,
    audio_rows=96,
)
CHANGES: list[dict[str, Any]] = [
    {},
    {"num_registers": 0},
    {"num_registers": 4, "global_tokens": "none"},
    {"num_registers": 0, "global_tokens": "none", "contrastive_weight": 0.01},
    {"global_local_losses": True},
    {"global_local_losses": True, "contrastive_head_depth": 2, "num_registers": 4},
    {"contrastive_head_depth": 2},
    {"contrastive_head_depth": 2, "global_tokens": "none", "num_registers": 0},
    {"audio_rows": 416},
    {"audio_rows": 1024, "global_tokens": "none", "num_registers": 0},
    {"audio_rows": 304, "image_size": 96, "num_registers": 4},
    {"norm_pix": False},
    {"norm_pix": False, "global_tokens": "none"},
    {"keep_registers": True},
    {"keep_registers": True, "contrastive_head_depth": 2, "num_registers": 4},
    {"keep_registers": True, "global_tokens": "none", "joint_depth": 2},
    {"joint_depth": 3},
    {"mask_ratio_audio": 0.6, "mask_ratio_image": 0.9},
    {"mask_ratio_audio": 0.5, "mask_ratio_image": 0.5, "reconstruction_weight": 0.0},
    {"mask_ratio_audio": 0.85, "contrastive_weight": 0.0},
    {"mlp_ratio": 2.0, "num_heads": 6, "encoder_depth": 1},
    {"patch_size": 8, "num_mels": 64},
]


def name_of(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in changes.items()) or "as released"


def build(config: ModelConfig) -> CavMaeSync:
    """A model none of whose parameters is at a value, such as 1 or 0, that would hide its absence."""
    generator = torch.Generator().manual_seed(0)
    model = CavMaeSync(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs(config: ModelConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    side = config.image_size
    return (
        torch.randn(3, config.audio_rows, config.num_mels, generator=generator),
        torch.randn(3, 3, side, side, generator=generator),
        torch.rand(3, config.num_audio_patches, generator=generator),
        torch.rand(3, config.num_image_patches, generator=generator),
    )


def choices(config: ModelConfig) -> reference.Choices:
    return reference.Choices(
        heads=config.num_heads,
        decoder_heads=config.decoder_num_heads,
        patch=config.patch_size,
        keep_registers=config.keep_registers,
        norm_pix=config.norm_pix,
        global_local=config.global_local_losses,
        contrast_weight=config.contrastive_weight,
        mae_weight=config.reconstruction_weight,
        ratio_audio=config.mask_ratio_audio,
        ratio_image=config.mask_ratio_image,
    )


@pytest.mark.parametrize("changes", CHANGES, ids=name_of)
def test_a_training_forward_is_upstreams(changes: dict[str, Any]) -> None:
    model = build(replace(SMALL, **changes))
    batch = inputs(model.config)
    with torch.no_grad():
        ours = model(*batch)
        theirs = reference.pretrain(official_state_dict(model), *batch, choices(model.config))
    encoded = {
        "global_audio": ours.encoding_audio.global_token,
        "global_image": ours.encoding_image.global_token,
        "local_audio": ours.encoding_audio.patches,
        "local_image": ours.encoding_image.patches,
    }
    for name, expected in theirs.items():
        own = encoded[name] if name in encoded else getattr(ours, name)
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("changes", CHANGES, ids=name_of)
def test_features_of_whole_inputs_are_upstreams(changes: dict[str, Any]) -> None:
    model = build(replace(SMALL, **changes))
    audio, image, *_ = inputs(model.config)
    w = official_state_dict(model)
    with torch.no_grad():
        for m, ours, x in (("a", model.encode_audio(audio), audio), ("v", model.encode_image(image), image)):
            embedding, local = reference.features(w, x, m, choices(model.config))
            torch.testing.assert_close(ours.global_token, embedding, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(ours.patches.flatten(1, 2), local, atol=1e-5, rtol=1e-5)


def differences(changes: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each output from that of the published code, its faults included."""
    model = build(replace(SMALL, **changes))
    batch, as_published = inputs(model.config), replace(choices(model.config), with_faults=True)
    with torch.no_grad():
        ours, theirs = model(*batch), reference.pretrain(official_state_dict(model), *batch, as_published)
    own = {
        "loss": ours.loss,
        "reconstruction_image": ours.reconstruction_image,
        "global_audio": ours.encoding_audio.global_token,
        "global_image": ours.encoding_image.global_token,
    }
    return {name: float((one - theirs[name]).abs().max()) for name, one in own.items()}


def test_outputs_differ_from_the_published_code_only_where_it_is_at_fault() -> None:
    assert max(differences({}).values()) < 1e-5
    registers, joint = differences({"keep_registers": True}), differences({"joint_depth": 2})
    # Registers that stay shift the image's tokens in the decoder, and no embedding.
    assert registers["reconstruction_image"] > 1e-3
    assert registers["loss"] > 1e-3
    assert max(registers["global_audio"], registers["global_image"]) < 1e-5
    assert min(joint["global_audio"], joint["global_image"]) > 0.1
    text = (ROOT / "docs" / "exporting.md").read_text()
    for setting in ("keep_registers=true", "joint_depth` above 1"):
        assert f"| `{setting}" in text
