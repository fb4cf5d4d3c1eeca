"""A run that was trained on a small labelled dataset."""

from pathlib import Path

import pytest
from support.known_shards import micro_run

from cavsync.train.pretrain.trainer import pretrain


@pytest.fixture(scope="module")
def labelled_run(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "runs" / "labelled"
    pretrain(micro_run(labelled), folder, device="cpu")
    return folder
