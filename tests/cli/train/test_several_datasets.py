"""Proves `cavsync train --data A --data B` and what evaluations then need."""

import json
import shutil
from pathlib import Path

import pytest
from support.command_line import output_text
from support.command_line import run as cavsync
from support.labelled_shards import write_labelled_shards
from support.trainings import events, micro, sets, train

from cavsync.train.evaluation.retrieval.contamination import training_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets of 8 clips for training and 4 for testing each, and a run of two steps on both."""
    folder = tmp_path_factory.mktemp("both")
    for name in ("one", "two"):
        write_labelled_shards(folder / name)
    start, *_ = events(
        *micro("--data", folder / "one", "--data", folder / "two", "--run", folder / "run", "--no-estimate"),
        *sets("data.weights=[3, 1]"),
    )
    assert [share["num_drawn"] for share in start["shares"]] == [12, 4]
    assert start["num_repeated_keys"] == 8
    return folder


def test_a_run_keeps_its_datasets_and_goes_on_with_them(folder: Path, tmp_path: Path) -> None:
    """Also where one of them was moved, as long as --data names all, in the same order."""
    config = json.loads((folder / "run" / "config.json").read_text())["data"]
    assert (config["path"], config["weights"]) == ([str(folder / "one"), str(folder / "two")], [3.0, 1.0])
    run = shutil.copytree(folder / "run", tmp_path / "run", symlinks=True)
    moved = shutil.copytree(folder / "two", tmp_path / "two, moved")
    start, *_ = events(
        *("pretrain", "--resume", "--run", run, "--steps", "3", "--data", folder / "one", "--data", moved)
    )
    assert start["steps_done"] == 2
    assert json.loads((run / "config.json").read_text())["data"]["path"] == [str(folder / "one"), str(moved)]
    one_only = train("pretrain", "--resume", "--run", run, "--data", folder / "one")
    assert one_only.exit_code != 0
    assert "weights=[3.0, 1.0] are 2 numbers, and path names 1" in output_text(one_only)


def test_a_dataset_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    result = train(*micro("--data", folder / "one", "--data", tmp_path / "absent", "--run", tmp_path / "run"))
    assert result.exit_code != 0
    assert f"{tmp_path / 'absent' / 'dataset.json'} does not exist" in str(result.exception)


def test_an_evaluation_asks_which_dataset_and_knows_all(folder: Path, tmp_path: Path) -> None:
    result = cavsync("eval", "retrieval", "--checkpoint", folder / "run", "--out", tmp_path / "report")
    assert result.exit_code != 0
    assert f"--data {folder / 'one'} or --data {folder / 'two'}" in output_text(result)
    training = training_of(folder / "run" / "model.safetensors")
    assert training.datasets == (str(folder / "one"), str(folder / "two"))
