"""Proves what a pretraining starts from: the preset's weights are fetched once, and a run that goes on needs them no more."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.command_line import output_text
from support.known_shards import micro_model, micro_run, write_known_shards
from support.servers.hub_of_vits import (
    SMALL_VIT,
    SMALL_VIT_SIZES,
    blocked_hub,
    hub_of_small_vit,
    silent_hub,
    use_hub,
    write_small_vit,
)
from support.trainings import events, micro, run, sets, train

from cavsync.cli.checkpoint.command import app as checkpoint
from cavsync.train.engine.config import ConfigError
from cavsync.train.pretrain.estimate import estimate
from cavsync.train.pretrain.presets import PRESETS
from cavsync.train.pretrain.trainer import pretrain

SMALL_VIT_MODEL = sets(
    *(f"model.{name}={size}" for name, size in SMALL_VIT_SIZES.items()), f"initial_weights={SMALL_VIT}"
)

# 5 blocks of 12 tensors in both encoders, the joint block with norms for each modality, patch embeddings, norms, and
# the position table of the images.
NUM_COPIED = 2 * 5 * 12 + 20 + 4 + 6 + 1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with the dataset that `tiny` looks for."""
    root = tmp_path_factory.mktemp("root")
    write_known_shards(root / "data" / "demo", num_clips=4)
    return root


def test_presets_of_full_size_start_from_imagenet_mae_and_the_demo_from_random_weights() -> None:
    started_from = {name: make().initial_weights for name, make in PRESETS.items()}
    imagenet = "timm:vit_base_patch16_224.mae"
    assert started_from | {"sync-base": imagenet, "cavmae-base": imagenet, "tiny": None} == started_from


def test_the_recipe_without_options_and_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked_hub(tmp_path, monkeypatch)
    write_known_shards(tmp_path / "data" / "audioset", num_clips=4)
    summary = tmp_path / "data" / "audioset" / "dataset.json"
    # A dataset of the recipe's size, as far as is read before the weights are fetched.
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"states": {"ok": 1_800_000}}))
    began_s = time.monotonic()
    result = train("pretrain", "--root", tmp_path)
    assert time.monotonic() - began_s < 15
    assert str(result.exception).startswith(
        f"initial_weights: timm:vit_base_patch16_224.mae (343 MB) is not in {tmp_path / 'cache'} and cannot be fetched"
    )
    assert str(result.exception).endswith("--set initial_weights=none.")
    assert result.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_a_dataset_that_fills_no_batch_is_refused_before_weights_are_fetched(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_hub(tmp_path, monkeypatch) as connections:
        refused = train("pretrain", "--data", root / "data" / "demo", "--run", tmp_path / "run")
        assert str(refused.exception).startswith("4 clips do not fill one batch of 512: ")
        assert connections == []


def test_a_run_says_what_it_fetches_and_starts_from_and_goes_on_without_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    description = f"{NUM_COPIED} tensors copied from {SMALL_VIT} (revision 000000000000); "
    options = [*micro("--root", root, "--run", folder), *SMALL_VIT_MODEL, "--steps", "1"]
    with hub_of_small_vit(tmp_path, monkeypatch):
        result = train(*options, "--json")
    assert result.exit_code == 0, output_text(result)
    assert result.stderr.startswith(f"Fetching the initial weights {SMALL_VIT} (")
    start = json.loads(result.stdout.splitlines()[0])
    assert start["initial_weights"].startswith(description)

    use_hub("http://127.0.0.1:9", tmp_path / "empty", monkeypatch)
    (resumed, *_) = events("pretrain", "--resume", "--run", folder, "--steps", "2")
    assert resumed["initial_weights"] == start["initial_weights"]
    inspected = json.loads(run(checkpoint, "inspect", folder, "--json").stdout)
    assert inspected["training"]["initial_weights"] == start["initial_weights"]
    assert inspected["training"]["config"]["initial_weights"] == SMALL_VIT


def test_a_file_that_was_brought_starts_the_run_and_is_shown(root: Path, tmp_path: Path) -> None:
    file = write_small_vit(tmp_path / "brought")
    brought = [*SMALL_VIT_MODEL, *sets(f"initial_weights={file}"), "--steps", "1", "--no-estimate"]
    output = output_text(train(*micro("--root", root, "--run", tmp_path / "run"), *brought))
    assert f"initial weights {NUM_COPIED} tensors copied from {file};" in output
    assert "Done: 1 steps." in output


def test_a_run_that_saved_nothing_yet_starts_again_from_its_weights(tmp_path: Path) -> None:
    shards = write_known_shards(tmp_path / "shards", num_clips=4)
    first = pretrain(micro_run(shards, num_steps=1), tmp_path / "first", device="cpu")
    config = micro_run(shards, num_steps=1, initial_weights=str(first.weights))
    whole = pretrain(config, tmp_path / "whole", device="cpu")
    pretrain(config, tmp_path / "killed", device="cpu")
    shutil.rmtree(tmp_path / "killed" / "checkpoints")
    (tmp_path / "killed" / "model.safetensors").unlink()
    again = pretrain(config, tmp_path / "killed", device="cpu", resume=True)
    assert again.last.losses == whole.last.losses
    shutil.rmtree(tmp_path / "killed" / "checkpoints")
    (tmp_path / "killed" / "model.safetensors").unlink()
    first.weights.unlink()
    with pytest.raises(ConfigError, match=r"initial_weights: .*model\.safetensors is not there"):
        pretrain(config, tmp_path / "killed", device="cpu", resume=True)


def test_the_time_of_a_run_is_estimated_without_its_initial_weights(tmp_path: Path) -> None:
    shards = write_known_shards(tmp_path / "shards", num_clips=4)
    config = micro_run(shards, model=micro_model(), initial_weights=str(tmp_path / "gone"))
    groups = replace(config, batch_size=4, negatives=2)
    assert estimate(groups, torch.device("cpu")).steps_measured == 2
