"""Proves which tensors a new model copies from a CAV-MAE, a CAV-MAE Sync and an image ViT, and which are random."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.model.checkpoints.initial_weights import load_initial_weights
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import attention_probe
from cavsync.model.config import ModelConfig, cavmae_base, sync_base
from cavsync.model.errors import CheckpointError
from cavsync.model.patches import position_table

SIZES: dict[str, Any] = {"image_size": 48, "embed_dim": 24, "num_heads": 2}
SIZES |= {"encoder_depth": 2, "decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
SYNC, CAVMAE = replace(sync_base(), **SIZES), replace(cavmae_base(), **SIZES)
VIT: dict[str, Any] = {"img_size": 48, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 0}


def build(config: ModelConfig, seed: int = 1) -> CavMaeSync:
    torch.manual_seed(seed)
    return CavMaeSync(config)


def official(tmp_path: Path, config: ModelConfig) -> Path:
    tensors = {f"module.{name}": tensor for name, tensor in official_state_dict(build(config)).items()}
    torch.save(tensors, tmp_path / "audio_model.25.pth")
    return tmp_path / "audio_model.25.pth"


def timm_vit(seed: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    vit = timm.create_model("vit_base_patch16_224.mae", pretrained=False, **VIT)
    tensors: dict[str, Tensor] = vit.state_dict()
    table = position_table(24, (3, 3))
    return tensors | {"pos_embed": torch.cat([torch.zeros(1, 1, 24), table], dim=1)}


def stored_vit(tmp_path: Path, **more: Tensor) -> Path:
    torch.save({"model": timm_vit() | more}, tmp_path / "mae_pretrain_vit.pth")
    return tmp_path / "mae_pretrain_vit.pth"


def test_sync_takes_the_weights_of_cavmae(tmp_path: Path) -> None:
    model, report = load_initial_weights(official(tmp_path, CAVMAE), SYNC)
    source = build(CAVMAE).state_dict()
    assert set(report.random) == {"cls_token_a", "cls_token_v", "register_tokens"}
    assert set(report.recomputed) == {"pos_embed_a", "decoder_pos_embed_a"}
    assert report.unused == ()
    for name, tensor in model.state_dict().items():
        assert name in report.random + report.recomputed or torch.equal(tensor, source[name])
    assert torch.equal(model.pos_embed_a, position_table(24, (8, 26)))
    assert model.config == SYNC


def test_of_the_published_cavmae_645_of_647_tensors_go_into_sync() -> None:
    with torch.device("meta"):
        sync, cavmae = (official_state_dict(CavMaeSync(config)) for config in (sync_base(), cavmae_base()))
    kept = [name for name, t in cavmae.items() if name in sync and t.shape == sync[name].shape]
    assert (len(kept), len(cavmae)) == (645, 647)


@pytest.mark.parametrize("audio_rows", [96, 416, 1024])
def test_a_model_of_another_audio_length_gives_initial_weights(tmp_path: Path, audio_rows: int) -> None:
    path = save_model(build(SYNC), tmp_path)
    model, report = load_initial_weights(path, replace(SYNC, audio_rows=audio_rows))
    assert (len(report.recomputed), report.random) == (0 if audio_rows == 416 else 2, ())
    torch.testing.assert_close(model.pos_embed_a.data, position_table(24, (8, audio_rows // 16)))
    assert torch.equal(model.blocks_u[0].norm1_v.weight, build(SYNC).blocks_u[0].norm1_v.weight)


def test_every_ablation_takes_the_weights_of_the_released_model(tmp_path: Path) -> None:
    path = official(tmp_path, SYNC)
    wanted = replace(SYNC, num_registers=4, joint_depth=2, contrastive_head_depth=1, global_tokens="per-task")
    _, report = load_initial_weights(path, wanted)
    assert {name.split(".")[0] for name in report.random} == {
        "register_tokens",
        "cls_token_reconstruction_a",
        "cls_token_reconstruction_v",
        "blocks_u",
        "constrative_head_audio",
        "constrative_head_visual",
    }
    assert not any(name.startswith("blocks_u.0") for name in report.random)
    _, report = load_initial_weights(path, replace(SYNC, global_tokens="none", num_registers=0))
    assert set(report.unused) == {"cls_token_a", "cls_token_v", "register_tokens"}


def test_random_tensors_follow_the_seed_and_the_global_random_state_does_not_change(tmp_path: Path) -> None:
    path = official(tmp_path, CAVMAE)
    state = torch.get_rng_state()
    one, again, other = (load_initial_weights(path, SYNC, seed)[0].cls_token_a for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.std().item() == pytest.approx(0.02, rel=0.5)


def test_a_model_with_initial_weights_trains(tmp_path: Path) -> None:
    model, _ = load_initial_weights(stored_vit(tmp_path), replace(SYNC, audio_rows=96))
    model(torch.randn(2, 96, 128), torch.randn(2, 3, 48, 48)).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_imagenet_mae_from_timm_fills_both_encoders(tmp_path: Path) -> None:
    vit = timm_vit()
    model, report = load_initial_weights(stored_vit(tmp_path), SYNC)
    for i in range(2):
        for blocks in (model.blocks_a, model.blocks_v):
            assert torch.equal(blocks[i].attn.qkv.weight, vit[f"blocks.{i}.attn.qkv.weight"])
            assert torch.equal(blocks[i].norm2.bias, vit[f"blocks.{i}.norm2.bias"])
    joint = model.blocks_u[0]
    assert torch.equal(joint.mlp.fc2.weight, vit["blocks.2.mlp.fc2.weight"])
    for norm in (joint.norm1, joint.norm1_a, joint.norm1_v):
        assert torch.equal(norm.weight, vit["blocks.2.norm1.weight"])
    for norm in (model.norm, model.norm_a, model.norm_v):
        assert torch.equal(norm.bias, vit["norm.bias"])
    assert torch.equal(model.patch_embed_v.proj.weight, vit["patch_embed.proj.weight"])
    summed = vit["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
    assert torch.equal(model.patch_embed_a.proj.weight, summed)
    assert torch.equal(model.patch_embed_a.proj.bias, vit["patch_embed.proj.bias"])
    assert report.unused == ("cls_token",)
    decoder = {name for name in report.random if name.startswith("decoder")}
    assert decoder == {n for n in model.state_dict() if n.startswith("decoder") and "pos_embed" not in n}
    rest = {"cls_token_a", "cls_token_v", "register_tokens", "mask_token", "modality_a", "modality_v"}
    assert set(report.random) - decoder == rest
    assert "eps 1e-6" in str(report)


def test_an_audio_patch_of_three_equal_channels_is_embedded_like_a_grey_image(tmp_path: Path) -> None:
    model, _ = load_initial_weights(stored_vit(tmp_path), SYNC)
    patch = torch.randn(1, 1, 16, 16)
    audio, grey = model.patch_embed_a(patch), model.patch_embed_v(patch.expand(-1, 3, -1, -1))
    torch.testing.assert_close(audio, grey)


def test_the_decoder_of_a_whole_mae_is_copied(tmp_path: Path) -> None:
    decoder = {
        "mask_token": torch.randn(1, 1, 16),
        "decoder_embed.weight": torch.randn(16, 24),
        "decoder_pos_embed": torch.cat([torch.zeros(1, 1, 16), position_table(16, (3, 3))], dim=1),
        "decoder_blocks.0.norm1.bias": torch.randn(16),
        "decoder_norm.weight": torch.randn(16),
        "decoder_pred.weight": torch.randn(768, 16),
        "decoder_pred.bias": torch.randn(768),
    }
    model, report = load_initial_weights(stored_vit(tmp_path, **decoder), SYNC)
    assert torch.equal(model.mask_token, decoder["mask_token"])
    assert torch.equal(model.decoder_pred_v.bias, decoder["decoder_pred.bias"])
    assert torch.equal(model.decoder_pred_a.weight, decoder["decoder_pred.weight"][:256])
    assert torch.equal(model.decoder_blocks[0].norm1.bias, decoder["decoder_blocks.0.norm1.bias"])
    assert report.unused == ("cls_token",)


def test_blocks_are_distributed_by_the_depths(tmp_path: Path) -> None:
    vit = timm_vit()
    model, report = load_initial_weights(stored_vit(tmp_path), replace(SYNC, encoder_depth=1, joint_depth=1))
    assert torch.equal(model.blocks_u[0].mlp.fc1.weight, vit["blocks.1.mlp.fc1.weight"])
    assert "blocks.2.mlp.fc1.weight" in report.unused
    model, report = load_initial_weights(stored_vit(tmp_path), replace(SYNC, encoder_depth=2, joint_depth=2))
    assert "blocks_u.1.mlp.fc1.weight" in report.random


def test_a_vit_of_another_image_size_gets_new_positions(tmp_path: Path) -> None:
    model, report = load_initial_weights(stored_vit(tmp_path), replace(SYNC, image_size=64))
    assert torch.equal(model.pos_embed_v, position_table(24, (4, 4)))
    assert "pos_embed_v" in report.recomputed
    learned = {"pos_embed": torch.randn(1, 10, 24)}
    model, _ = load_initial_weights(stored_vit(tmp_path, **learned), SYNC)
    assert torch.equal(model.pos_embed_v, learned["pos_embed"][:, 1:])
    with pytest.raises(CheckpointError, match=r"mae_pretrain_vit.pth .*trained positions \(pos_embed_v\)"):
        load_initial_weights(stored_vit(tmp_path, **learned), replace(SYNC, image_size=64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 48}, "is of another size than the model to train: .*Set the model's sizes"),
        ({"decoder_dim": 32}, "is of another size than the model to train"),
        ({"mlp_ratio": 2.0}, r"misshapen \(blocks_a.0.mlp.fc1.weight is \(96, 24\) and should be \(48, 24\)"),
        ({"num_mels": 64}, r"misshapen \(pos_embed_a is"),
        ({"num_heads": 4}, "has num_heads=2, and the model to train has num_heads=4"),
        ({"decoder_num_heads": 4}, "has decoder_num_heads=2, and the model to train has decoder_num_heads=4"),
    ],
)
def test_a_source_of_another_size_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = save_model(build(SYNC), tmp_path)
    with pytest.raises(CheckpointError, match=rf"model.safetensors .*({message})"):
        load_initial_weights(path, replace(SYNC, **changes))


def test_sources_that_are_no_model_are_refused(tmp_path: Path) -> None:
    probe = save_model(CavMaeClassifier(SYNC, attention_probe(5)), tmp_path)
    with pytest.raises(CheckpointError, match="is a classifier; give a pretrained model as initial weights"):
        load_initial_weights(probe, SYNC)
    with pytest.raises(CheckpointError, match="is not there"):
        load_initial_weights(tmp_path / "nothing.pth", SYNC)
    broken = stored_vit(tmp_path, pos_embed=torch.zeros(()))
    with pytest.raises(CheckpointError, match="holds no ViT that fits this model"):
        load_initial_weights(broken, SYNC)
