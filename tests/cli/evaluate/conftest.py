"""A small labelled dataset, and a run that was trained on it."""

from pathlib import Path

import pytest
from support.known_shards import micro_run
from support.labelled_shards import write_labelled_shards

from cavsync.train.pretrain.trainer import pretrain


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def labelled_run(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "runs" / "labelled"
    pretrain(micro_run(labelled), folder, device="cpu")
    return folder
