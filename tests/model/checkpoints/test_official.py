"""Proves that classifiers in upstream's layout are read with their configuration, and that other files are errors."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import (
    load_model,
    save_model,
)
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import (
    ClassifierConfig,
    Modality,
    attention_probe,
    cavmae_finetuning,
    linear_probe,
    sync_finetuning,
)
from cavsync.model.config import ModelConfig, cavmae_base, sync_base
from cavsync.model.errors import CheckpointError

SIZES: dict[str, Any] = {"audio_rows": 64, "image_size": 48, "embed_dim": 24, "num_heads": 2}
SIZES |= {"encoder_depth": 2, "decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
SYNC, CAVMAE = replace(sync_base(), **SIZES), replace(cavmae_base(), **SIZES)
PUBLISHED: dict[str, tuple[ModelConfig, ClassifierConfig, dict[str, Any]]] = {
    "CAV-MAE": (CAVMAE, cavmae_finetuning(309), {}),
    "CAV-MAE, audio": (
        replace(CAVMAE, audio_rows=1024),
        cavmae_finetuning(309, "audio"),
        {"modality": "audio"},
    ),
    "CAV-MAE, short audio": (
        CAVMAE,
        cavmae_finetuning(309, "audio"),
        {"modality": "audio", "features": "own"},
    ),
    "Sync without tokens, audio": (
        CAVMAE,  # the same tensors
        replace(sync_finetuning(10, "audio"), pooling="mean"),  # what its global token falls back to
        {"modality": "audio", "features": "joint"},
    ),
    "CAV-MAE, a partner missing": (
        CAVMAE,
        replace(cavmae_finetuning(309, "image"), features="joint-and-own"),
        {"modality": "image", "features": "joint-and-own"},
    ),
    "Sync": (SYNC, sync_finetuning(10), {}),
    "Sync, image": (SYNC, sync_finetuning(10, "image"), {"modality": "image"}),
    "Sync, attention": (SYNC, attention_probe(527), {}),
    "Sync, attention, audio": (SYNC, attention_probe(527, "audio"), {"modality": "audio"}),
    "Sync, three blocks": (SYNC, replace(attention_probe(5), attention_depth=3), {}),
    "two joint blocks": (replace(CAVMAE, joint_depth=2), cavmae_finetuning(309), {}),
}


def build(model: ModelConfig = SYNC, config: ClassifierConfig | None = None) -> CavMaeClassifier:
    torch.manual_seed(0)
    return CavMaeClassifier(model, config or attention_probe(5))


def official(tmp_path: Path, classifier: CavMaeClassifier) -> Path:
    tensors = {f"module.{name}": tensor for name, tensor in official_state_dict(classifier).items()}
    torch.save(tensors, tmp_path / "best_audio_model.pth")
    return tmp_path / "best_audio_model.pth"


def same(one: CavMaeClassifier, other: CavMaeClassifier) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_classifier_is_read_with_its_configuration(tmp_path: Path, name: str) -> None:
    model, config, overrides = PUBLISHED[name]
    read = load_model(official(tmp_path, build(model, config)), num_heads=2, **overrides)
    assert read.classifier == config
    of_encoder = {name: value for name, value in asdict(model).items() if not name.startswith("decoder")}
    assert of_encoder.items() <= asdict(read.config).items()
    assert same(read, build(model, config))
    assert not read.training


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_a_classifier_that_either_code_may_have_made_is_not_guessed(
    tmp_path: Path, modality: Modality
) -> None:
    """Read as CAV-MAE's, one of Sync's without learned tokens would get other features: outputs off by 1.1."""
    tokenless = replace(SYNC, num_registers=0, global_tokens="none")
    file = official(tmp_path, build(tokenless, sync_finetuning(10, modality)))
    with pytest.raises(CheckpointError, match=r'64 rows of audio.* add features="own" .* features="joint"'):
        load_model(file, num_heads=2, modality=modality)
    assert load_model(file, num_heads=2).classifier.features == "joint"  # of both modalities the codes agree


def test_a_published_classifier_has_upstreams_names(tmp_path: Path) -> None:
    attention = official_state_dict(build(SYNC, attention_probe(5)))
    assert {
        "cls_cls_token",
        "classifier_layers.1.norm2_v.weight",
        "classifier_layers.0.attn.qkv.bias",
        "classifier_norm.bias",
        "classifier_head.weight",
    } <= attention.keys()
    plain = official_state_dict(build(CAVMAE, cavmae_finetuning(5))).keys()
    assert {name for name in plain if "head" in name} == {
        f"mlp_head.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")
    }
    assert not any(name.startswith(("decoder", "mask_token", "head")) for name in (*attention, *plain))


def test_the_modality_of_a_head_of_one_modality_must_be_given(tmp_path: Path) -> None:
    path = official(tmp_path, build(SYNC, attention_probe(5, "image")))
    with pytest.raises(
        CheckpointError, match=r'takes one modality, audio or image: add modality="audio" or "image"'
    ):
        load_model(path, num_heads=2)


def test_trained_positions_stay_with_their_length(tmp_path: Path) -> None:
    classifier = build()
    with torch.no_grad():
        classifier.pos_embed_a.add_(1)
    path = official(tmp_path, classifier)
    assert same(load_model(path, num_heads=2), classifier)
    with pytest.raises(CheckpointError, match=r"best_audio_model.pth: .*trained positions \(pos_embed_a\)"):
        load_model(path, num_heads=2, audio_rows=96)
    assert load_model(path, num_heads=2, image_size=32).config.image_size == 32


def test_load_model_reads_a_pretrained_model_and_a_classifier(tmp_path: Path) -> None:
    pretrained = save_model(CavMaeSync(SYNC), tmp_path / "pretrained.safetensors")
    assert isinstance(load_model(pretrained), CavMaeSync)
    for path in (save_model(build(), tmp_path / "probe.safetensors"), official(tmp_path, build())):
        assert same(load_model(path, num_heads=2), build())


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("classifier_layers.1.attn.qkv.weight", "1 missing"),
        ("classifier_head.weight", "not a CAV-MAE: classifier_head.weight missing"),
        ("cls_cls_token", r"1 missing \(cls_cls_token\)"),
        ("pos_embed_v", "not a CAV-MAE: pos_embed_v missing"),
    ],
)
def test_a_tensor_that_is_lost_is_named(tmp_path: Path, lost: str, message: str) -> None:
    tensors = official_state_dict(build())
    del tensors[lost]
    torch.save(tensors, tmp_path / "lost.pth")
    with pytest.raises(CheckpointError, match=rf"lost\.pth .*{message}"):
        load_model(tmp_path / "lost.pth", num_heads=2)


def test_overrides_reach_both_configurations_and_no_further(tmp_path: Path) -> None:
    path = official(tmp_path, build(CAVMAE, cavmae_finetuning(5)))
    read = load_model(path, num_heads=2, pooling="global", features="joint", norm_pix=False)
    assert (read.classifier.pooling, read.config.norm_pix) == ("global", False)
    with pytest.raises(ValueError, match="no field 'modaliti'; did you mean 'modality'"):
        load_model(path, modaliti="audio")
    with pytest.raises(ValueError, match="ModelConfig has no field 'modality'"):
        load_model(save_model(CavMaeSync(SYNC), tmp_path / "pretrained.safetensors"), modality="audio")


def test_a_linear_probe_has_no_official_layout() -> None:
    with pytest.raises(CheckpointError, match="upstream has no linear head; it has mlp and attention"):
        official_state_dict(build(SYNC, linear_probe(5)))
