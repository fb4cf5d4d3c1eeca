"""Proves that a checkpoint in a repository of the Hugging Face hub is loaded by its address."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from support.command_line import output_text
from support.command_line import run as command
from support.known_shards import micro_run, write_known_shards
from support.servers.dataset_hub import dataset_hub

from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.model.errors import CheckpointError
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.pretrain.trainer import pretrain


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/me/own is a run folder; below sub/ lies a file in the published layout with its record."""
    root = tmp_path_factory.mktemp("hub")
    pretrain(micro_run(write_known_shards(root / "data", num_clips=4)), root / "run", device="cpu")
    own = root / "models/me/own"
    shutil.copytree(root / "run", own)
    exported = command("checkpoint", "export", own, own / "sub/out.pth")
    assert exported.exit_code == 0, exported.output
    return root


@pytest.fixture
def requests(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with dataset_hub(repositories, monkeypatch) as requests:
        yield requests


@pytest.mark.parametrize("path", ["hf://me/own", "hf://me/own@main", "hf://me/own/model.safetensors"])
def test_a_run_on_the_hub_is_the_model_with_its_inputs(
    path: str, repositories: Path, requests: list[str]
) -> None:
    here = LoadedCheckpoint.load(repositories / "models/me/own")
    for there in (LoadedCheckpoint.load(path), LoadedCheckpoint.load(Path(path))):
        assert there.inputs == here.inputs
        for name, tensor in here.model.state_dict().items():
            assert torch.equal(there.model.state_dict()[name], tensor)
    assert load_model(path).config == here.model.config
    fetched = [request for request in requests if request.startswith("GET") and "/resolve/" in request]
    assert len(fetched) == len(set(fetched)), "once"
    assert not any("last.pt" in request for request in fetched)


def test_a_published_file_on_the_hub_comes_with_the_record_beside_it(
    repositories: Path, requests: list[str]
) -> None:
    here = LoadedCheckpoint.load(repositories / "models/me/own")
    there = LoadedCheckpoint.load("hf://me/own/sub/out.pth")
    assert there.model.config == here.model.config
    assert (there.inputs.mel_mean, there.inputs.pad_value) == (here.inputs.mel_mean, here.inputs.pad_value)
    inspected = command("checkpoint", "inspect", "hf://me/own/sub/out.pth")
    assert inspected.exit_code == 0, inspected.output


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hf://me/nothing", r"hf://me/nothing cannot be fetched \(RepositoryNotFoundError"),
        ("hf://me/own/absent.pth", r"absent\.pth is not there"),
    ],
)
def test_a_checkpoint_that_the_hub_lacks_is_an_error(path: str, message: str, requests: list[str]) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


def test_a_command_says_what_the_hub_lacks(requests: list[str], tmp_path: Path) -> None:
    result = command("eval", "retrieval", "--checkpoint", "hf://me/nothing", "--data", tmp_path)
    assert result.exit_code == 1
    assert "hf://me/nothing cannot be fetched" in output_text(result)
