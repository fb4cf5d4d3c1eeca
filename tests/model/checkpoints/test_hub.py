"""Proves that models go to a hub and come back whole, through huggingface_hub, with how they were trained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.servers.hub_of_vits import use_hub
from support.servers.small_hub import small_hub

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model, save_model
from cavsync.model.checkpoints.files.checkpoint_file import read_checkpoint_file
from cavsync.model.checkpoints.hub import HubClassifier, HubModel
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import linear_probe
from cavsync.model.config import ModelConfig, tiny
from cavsync.model.errors import CheckpointError
from cavsync.train.data.inputs import trained_inputs

MICRO: ModelConfig = replace(
    tiny(), audio_rows=64, image_size=48, embed_dim=24, num_heads=4, encoder_depth=1, decoder_dim=16
)
TRAINING = {"step": 3, "config": {"data": {"mel_mean": -6.5, "mel_std": 3.5, "pad_value": -6.5}}}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save_model(CavMaeSync(MICRO), tmp_path / "model.safetensors", TRAINING)


def require_same(path: Path, other: Path) -> None:
    one, two = read_checkpoint_file(path), read_checkpoint_file(other)
    assert (one.model_config, one.training) == (two.model_config, two.training)
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())


def test_a_pushed_model_is_downloaded_unchanged(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    with small_hub(tmp_path / "hub") as address:
        use_hub(address, tmp_path / "cache", monkeypatch)
        HubModel.from_checkpoint(stored).push_to_hub("me/own")
        model = HubModel.from_pretrained("me/own")
    save_model(model, tmp_path / "back", model.training_record)
    require_same(stored, tmp_path / "back")
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["embed_dim"] == 24
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "library_name: cavsync" in card
    assert 'HubModel.from_pretrained("OWNER/NAME")' in card


def test_a_saved_folder_is_a_checkpoint_like_any_other(stored: Path, tmp_path: Path) -> None:
    HubModel.from_checkpoint(stored).save_pretrained(tmp_path / "folder")
    require_same(stored, tmp_path / "folder")
    inputs = trained_inputs(tmp_path / "folder" / "model.safetensors")
    assert inputs is not None
    assert inputs.mel_mean == -6.5  # the hub's config.json beside it does not hold them
    model, again = load_model(stored), HubModel.from_pretrained(tmp_path / "folder")
    audio = torch.randn(2, 64, 128)
    with torch.no_grad():
        assert torch.equal(model.encode_audio(audio).patches, again.encode_audio(audio).patches)
    assert not again.training


def test_fields_may_be_given_as_to_load_model(stored: Path, tmp_path: Path) -> None:
    HubModel.from_checkpoint(stored).save_pretrained(tmp_path / "folder")
    model = HubModel.from_pretrained(tmp_path / "folder", image_size=64)
    assert model.config == replace(MICRO, image_size=64)
    with pytest.raises(ValueError, match="did you mean 'image_size'"):
        HubModel.from_pretrained(tmp_path / "folder", image_sise=64)


def test_a_classifier_goes_and_comes_as_one(stored: Path, tmp_path: Path) -> None:
    path = save_model(CavMaeClassifier(MICRO, linear_probe(5)), tmp_path / "probe")
    HubClassifier.from_checkpoint(path).save_pretrained(tmp_path / "folder")
    require_same(path, tmp_path / "folder")
    assert HubClassifier.from_pretrained(tmp_path / "folder").classifier == linear_probe(5)
    with pytest.raises(CheckpointError, match="is a CavMaeClassifier: use HubClassifier"):
        HubModel.from_pretrained(tmp_path / "folder")
    with pytest.raises(CheckpointError, match="is a CavMaeSync: use HubModel"):
        HubClassifier.from_checkpoint(stored)


def test_a_folder_of_two_pushes_is_refused(stored: Path, tmp_path: Path) -> None:
    HubModel.from_checkpoint(stored).save_pretrained(tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config | {"encoder_depth": 2}))
    with pytest.raises(CheckpointError, match=r"describes another model than model\.safetensors holds"):
        HubModel.from_pretrained(tmp_path / "folder")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not there"):
        HubModel.from_pretrained(tmp_path)
