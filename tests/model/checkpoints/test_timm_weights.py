"""Proves that the weights of timm's ViTs are fetched once, and what a machine without a network is told to do."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from support.servers.hub_of_vits import (
    SMALL_VIT,
    SMALL_VIT_SIZES,
    blocked_hub,
    hub_of_small_vit,
    silent_hub,
    write_small_vit,
)

from cavsync.errors import OutputError
from cavsync.model.checkpoints import timm_weights
from cavsync.model.checkpoints.initial_weights import fetch_initial_weights, load_initial_weights
from cavsync.model.checkpoints.timm_weights import IMAGENET_MAE, TimmWeights
from cavsync.model.config import ModelConfig, cavmae_base, sync_base
from cavsync.model.errors import CheckpointError

DECODER: dict[str, Any] = {"decoder_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
SMALL = ModelConfig(**{**SMALL_VIT_SIZES, **DECODER})


def test_the_weights_are_fetched_once_and_announced_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[str] = []
    with hub_of_small_vit(tmp_path, monkeypatch) as hub:
        fetch_initial_weights(SMALL_VIT, SMALL, announced.append)
        (text,) = announced
        size = (hub / "model.safetensors").stat().st_size
        for part in (
            f"{size / 1e6:.0f} MB",
            f"into {tmp_path / 'cache'}; HF_HOME=FOLDER names another folder",
            "/timm/test_vit.r160_in1k/resolve/main/model.safetensors",
            "A machine without a network: fetch that file elsewhere, bring it, and give it with --set initial_weights=FILE",
            "Random weights instead, which are another recipe: --set initial_weights=none",
        ):
            assert part in text
    # The hub is gone: what was fetched is enough.
    fetch_initial_weights(SMALL_VIT, SMALL, announced.append)
    model, report = load_initial_weights(SMALL_VIT, SMALL)
    assert len(announced) == 1
    stored = load_file(hub / "model.safetensors")
    assert torch.equal(model.blocks_a[4].mlp.fc1.weight, stored["blocks.4.mlp.fc1.weight"])
    assert torch.equal(model.blocks_u[0].attn.qkv.weight, stored["blocks.5.attn.qkv.weight"])
    assert report.source == f"{SMALL_VIT} (revision {'0' * 12})"


def test_the_file_that_was_fetched_elsewhere_is_taken(tmp_path: Path) -> None:
    file = write_small_vit(tmp_path)
    model, report = load_initial_weights(file, SMALL)
    assert torch.equal(model.blocks_v[0].attn.qkv.weight, load_file(file)["blocks.0.attn.qkv.weight"])
    assert report.source == str(file)


def test_a_hub_that_refuses_the_connection_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked_hub(tmp_path, monkeypatch)
    began_s = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        fetch_initial_weights(IMAGENET_MAE, sync_base(), print)
    # The client's own repetitions take 20 s here.
    assert time.monotonic() - began_s < 15
    message = str(caught.value)
    assert f"{IMAGENET_MAE} (343 MB) is not in {tmp_path / 'cache'} and cannot be fetched: " in message
    assert "/timm/vit_base_patch16_224.mae/resolve/main/model.safetensors`, bring the file here" in message
    assert message.endswith(
        "give it with --set initial_weights=model.safetensors. Random weights instead, which are another recipe: "
        "--set initial_weights=none."
    )


def test_a_hub_that_never_answers_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_weights, "REPLY_TIMEOUT_S", 0.2)
    with silent_hub(tmp_path, monkeypatch) as connections:
        with pytest.raises(CheckpointError, match=r"cannot be fetched: .*timed out"):
            fetch_initial_weights(SMALL_VIT, SMALL, print)
        assert len(connections) == 1


def test_a_hub_without_the_file_and_a_process_that_is_offline_are_reported_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_of_small_vit(tmp_path, monkeypatch) as hub:
        (hub / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"cannot be fetched: 404 .*initial_weights=none\."):
            fetch_initial_weights(SMALL_VIT, SMALL, print)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(CheckpointError, match=r"cannot be fetched: .*[Oo]ffline.*initial_weights=none\."):
            fetch_initial_weights(SMALL_VIT, SMALL, print)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_of_small_vit(tmp_path, monkeypatch):
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(OutputError, match=f"{tmp_path / 'cache'} cannot be written: .*HF_HOME=FOLDER"):
            fetch_initial_weights(SMALL_VIT, SMALL, print)


def test_a_damaged_file_of_the_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_of_small_vit(tmp_path, monkeypatch):
        file = TimmWeights.of(SMALL_VIT).fetch(print)
    file.resolve().write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=rf"{file} cannot be read as the weights .* Delete it"):
        load_initial_weights(SMALL_VIT, SMALL)


@pytest.mark.parametrize(
    ("source", "config", "message"),
    [
        (SMALL_VIT, replace(SMALL, embed_dim=32), "is of another size .*or start from random weights with"),
        (IMAGENET_MAE, replace(sync_base(), mlp_ratio=2.0), "blocks_a.0.mlp.fc1.weight is"),
        ("timm:resnet18", cavmae_base(), f"is no plain ViT; CAV-MAE and CAV-MAE Sync take {IMAGENET_MAE}"),
        ("timm:vit_based", sync_base(), "timm publishes no weights called 'vit_based'"),
    ],
)
def test_weights_that_do_not_fit_are_not_even_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, config: ModelConfig, message: str
) -> None:
    with silent_hub(tmp_path, monkeypatch) as connections:
        with pytest.raises(CheckpointError, match=message):
            fetch_initial_weights(source, config, print)
        assert connections == []


def test_images_of_another_size_are_no_reason_to_refuse_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked_hub(tmp_path, monkeypatch)
    with pytest.raises(CheckpointError, match="cannot be fetched"):
        fetch_initial_weights(IMAGENET_MAE, replace(sync_base(), image_size=448), print)
