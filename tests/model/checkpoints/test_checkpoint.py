"""Proves that a model or a classifier is read back as it was saved, and that the error for any other file names it."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model, save_model
from cavsync.model.checkpoints.official import official_state_dict
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import (
    ClassifierConfig,
    attention_probe,
    cavmae_finetuning,
    linear_probe,
)
from cavsync.model.config import ModelConfig, cavmae_base, sync_base, tiny
from cavsync.model.errors import CheckpointError
from cavsync.model.patches import position_table

SIZES: dict[str, Any] = {"audio_rows": 64, "image_size": 48, "embed_dim": 24, "num_heads": 2}
SIZES |= {"encoder_depth": 2, "decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
SYNC, CAVMAE = replace(sync_base(), **SIZES), replace(cavmae_base(), **SIZES)
HEADS = {"num_heads": 2, "decoder_num_heads": 2}
VARIANTS = {
    "Sync": SYNC,
    "CAV-MAE": CAVMAE,
    "Sync with heads": replace(SYNC, contrastive_head_depth=2),
    "Sync without registers": replace(SYNC, num_registers=0),
    "registers without global token": replace(SYNC, global_tokens="none", num_registers=4),
    "two joint blocks": replace(SYNC, joint_depth=2, mlp_ratio=2.0),
    "a token per task": replace(SYNC, global_tokens="per-task"),
    "a small decoder": replace(SYNC, decoder_dim=8, decoder_depth=3),
}


def build(config: ModelConfig) -> CavMaeSync:
    torch.manual_seed(0)
    return CavMaeSync(config)


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def official(tmp_path: Path, config: ModelConfig = SYNC, prefix: str = "module.") -> Path:
    path = tmp_path / "official.pth"
    torch.save({f"{prefix}{name}": t for name, t in official_state_dict(build(config)).items()}, path)
    return path


def damaged(tmp_path: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    tensors = official_state_dict(build(SYNC))
    change(tensors)
    torch.save(tensors, tmp_path / "damaged.pth")
    return tmp_path / "damaged.pth"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_official_file_is_read_with_its_configuration(tmp_path: Path, variant: str, prefix: str) -> None:
    model = load_model(official(tmp_path, VARIANTS[variant], prefix), **HEADS)
    assert asdict(model.config) | {"contrastive_weight": 0} == asdict(VARIANTS[variant]) | {
        "contrastive_weight": 0
    }
    assert same(model, build(VARIANTS[variant]))


@pytest.mark.parametrize("name", ["model.safetensors", "a folder"])
def test_a_saved_model_is_read_back_as_it_was(tmp_path: Path, name: str) -> None:
    model = build(replace(tiny(), temperature=0.07, norm_pix=False))
    saved = save_model(model, tmp_path / name)
    read = load_model(tmp_path / name)
    assert read.config == model.config
    assert same(read, model)
    assert [file.name for file in saved.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("config", "num_tensors", "num_parameters"),
    [
        (sync_base(), 650, 190_660_864),
        (cavmae_base(), 647, 191_036_160),
        (replace(cavmae_base(), num_registers=4, contrastive_head_depth=2), 728, 219_418_368),
    ],
    ids=["released Sync", "CAV-MAE", "Sync's constructor as it is called"],
)
def test_the_official_layout_has_upstreams_tensors(
    config: ModelConfig, num_tensors: int, num_parameters: int
) -> None:
    with torch.device("meta"):
        tensors = official_state_dict(CavMaeSync(config))
    assert len(tensors) == num_tensors
    assert sum(tensor.numel() for tensor in tensors.values()) == num_parameters


def test_registers_are_kept_where_the_configuration_keeps_them(tmp_path: Path) -> None:
    model = build(replace(SYNC, keep_registers=True))
    assert load_model(save_model(model, tmp_path)).config.keep_registers
    path = official(tmp_path, replace(SYNC, keep_registers=True))
    assert load_model(path, **HEADS, keep_registers=True).config.keep_registers


def test_a_training_checkpoint_is_read_whatever_else_it_holds(tmp_path: Path) -> None:
    model = build(SYNC)
    other = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}, "step": 12, "best": 0.5}
    torch.save({"model": model.state_dict(), "model_config": asdict(SYNC), **other}, tmp_path / "last.pt")
    read = load_model(tmp_path / "last.pt")
    assert read.config == SYNC
    assert same(read, model)


def test_a_loaded_model_is_ready_to_use_and_to_train(tmp_path: Path) -> None:
    model = load_model(official(tmp_path), **HEADS)
    assert not model.training
    model(torch.randn(2, 64, 128), torch.randn(2, 3, 48, 48)).loss.backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert not model.pos_embed_a.requires_grad


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    path = official(tmp_path)
    state = torch.get_rng_state()
    load_model(path, **HEADS)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    torch.save({n: t.half() for n, t in official_state_dict(build(SYNC)).items()}, tmp_path / "half.pth")
    model = load_model(tmp_path / "half.pth", **HEADS)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_settings_without_a_shape_are_as_released(tmp_path: Path) -> None:
    model = load_model(official(tmp_path, replace(SYNC, embed_dim=48, num_heads=12)), decoder_num_heads=2)
    assert (model.config.num_heads, model.config.norm_pix) == (12, True)
    assert load_model(official(tmp_path), **HEADS, norm_pix=False).config.norm_pix is False


def test_trained_position_tables_are_kept(tmp_path: Path) -> None:
    path = damaged(tmp_path, lambda tensors: tensors["pos_embed_a"].add_(1))
    table = load_model(path, **HEADS).pos_embed_a
    torch.testing.assert_close(table, position_table(24, (8, 4)) + 1)


def test_another_size_gets_new_position_tables(tmp_path: Path) -> None:
    model = load_model(official(tmp_path), **HEADS, audio_rows=96, image_size=32)
    torch.testing.assert_close(model.pos_embed_a.data, position_table(24, (8, 6)))
    torch.testing.assert_close(model.decoder_pos_embed_v.data, position_table(16, (2, 2)))
    assert model.encode_audio(torch.zeros(1, 96, 128)).patches.shape == (1, 8, 6, 24)


def test_trained_position_tables_do_not_move_to_another_size(tmp_path: Path) -> None:
    path = damaged(tmp_path, lambda tensors: tensors["pos_embed_a"].add_(1))
    with pytest.raises(CheckpointError, match=r"trained positions \(pos_embed_a\), which fit \(8, 4\)"):
        load_model(path, **HEADS, audio_rows=96)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("norm_a.weight"), r"1 missing \(norm_a.weight\)"),
        (lambda t: t.pop("blocks_v.1.norm1_a.bias"), r"1 missing \(blocks_v.1.norm1_a.bias\)"),
        (lambda t: t.pop("cls_token_v"), r"1 missing \(cls_token_v\)"),
        (lambda t: t.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda t: t.update({"norm.bias": torch.zeros(7)}),
            r"1 misshapen \(norm.bias is \(7,\) and should be \(24,\)\)",
        ),
        (
            lambda t: t.update({"blocks_a.0.norm2_v.weight": torch.zeros(7)}),
            r"misshapen \(blocks_a.0.norm2_v.weight",
        ),
        (
            lambda t: t.update({"norm.bias": torch.zeros(24, dtype=torch.int64)}),
            r"norm.bias is \(24,\) torch.int64",
        ),
        (lambda t: t.update({"pos_embed_a": torch.zeros(1, 33, 24)}), r"pos_embed_a is \(1, 33, 24\)"),
        (lambda t: t.update({"pos_embed_v": torch.zeros(1, 10, 24)}), r"pos_embed_v is \(1, 10, 24\)"),
        (lambda t: t.update({"register_tokens": torch.zeros(15, 24)}), r"register_tokens is \(15, 24\)"),
        (
            lambda t: [t.pop(n) for n in list(t) if n.startswith("decoder_blocks.0.attn")],
            r"4 missing \(.*, \.\.\.\)",
        ),
        (lambda t: t.pop("pos_embed_a"), "not a CAV-MAE: pos_embed_a missing or of the wrong shape"),
        (
            lambda t: t.update(pos_embed_v=torch.zeros(9, 24)),
            "not a CAV-MAE: pos_embed_v missing or of the wrong",
        ),
    ],
)
def test_a_tensor_that_is_not_the_models_is_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    path = damaged(tmp_path, change)
    with pytest.raises(CheckpointError, match=rf"damaged\.pth .*{message}"):
        load_model(path, **HEADS)


def test_our_own_file_must_hold_every_tensor_too(tmp_path: Path) -> None:
    saved = save_model(build(SYNC), tmp_path)
    tensors = load_file(saved)
    del tensors["norm.bias"]
    torch.save({"model": tensors, "model_config": asdict(SYNC)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"1 missing \(norm.bias\)"):
        load_model(tmp_path / "last.pt")


def test_an_unknown_override_names_its_nearest_neighbour(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no field 'nun_heads'; did you mean 'num_heads'"):
        load_model(official(tmp_path), nun_heads=2)


def test_the_error_for_heads_that_do_not_divide_the_width_names_the_option(tmp_path: Path) -> None:
    config = replace(SYNC, embed_dim=20, num_heads=2)
    with pytest.raises(
        CheckpointError, match=r"embed_dim=20 must divide by num_heads=12; .*pass it to load_model"
    ):
        load_model(official(tmp_path, config))


def test_a_configuration_of_another_version_is_refused(tmp_path: Path) -> None:
    state = build(SYNC).state_dict()
    torch.save({"model": state, "model_config": asdict(SYNC) | {"colour": 1}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"no valid configuration: .*'colour'"):
        load_model(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list instead of named tensors"),
        ({}, "holds a dict instead of named tensors"),
        ({"epoch": 3, "norm.bias": torch.zeros(2)}, r"no named tensors: \['epoch'\]"),
        ({"model": {}, "model_config": {}}, "instead of named tensors"),
        ({"conv.weight": torch.zeros(2)}, "not a CAV-MAE: patch_embed_a.proj.weight, "),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "other.pth")


def test_safetensors_without_a_configuration_are_read_as_upstreams(tmp_path: Path) -> None:
    save_file(official_state_dict(build(SYNC)), tmp_path / "converted.safetensors")
    assert same(load_model(tmp_path / "converted.safetensors", **HEADS), build(SYNC))


def test_the_error_for_a_missing_path_lists_its_folder(tmp_path: Path) -> None:
    (tmp_path / "step_100.pt").touch()
    with pytest.raises(CheckpointError, match=r"model.safetensors is not there; there are step_100.pt"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="the folder is empty or not there"):
        load_model(tmp_path / "no" / "such.pth")


@pytest.mark.parametrize("config", [attention_probe(5), linear_probe(5, "audio"), cavmae_finetuning(5)])
def test_a_saved_classifier_is_read_back_as_it_was(tmp_path: Path, config: ClassifierConfig) -> None:
    classifier = CavMaeClassifier(SYNC, config)
    saved = save_model(classifier, tmp_path / "probe")
    read = load_model(tmp_path / "probe")
    assert (read.config, read.classifier) == (SYNC, config)
    assert same(read, classifier)
    assert saved == tmp_path / "probe" / "model.safetensors"
    trained = {name for name, p in classifier.named_parameters() if p.requires_grad}
    assert {name for name, p in read.named_parameters() if p.requires_grad} == trained


def test_a_training_checkpoint_of_a_classifier_is_read(tmp_path: Path) -> None:
    classifier = CavMaeClassifier(SYNC, attention_probe(5))
    configs = {"model_config": asdict(SYNC), "classifier_config": asdict(classifier.classifier)}
    torch.save({"model": classifier.state_dict(), "step": 3, **configs}, tmp_path / "last.pt")
    assert same(load_model(tmp_path / "last.pt"), classifier)


def test_a_classifiers_file_is_plain_safetensors(tmp_path: Path) -> None:
    tensors = load_file(save_model(CavMaeClassifier(SYNC, attention_probe(5)), tmp_path))
    assert tensors["head.linear.weight"].shape == (5, 48)
