"""A dataset with clips in several states, for the tests of `cavsync data`."""

import shutil
from pathlib import Path

import pytest
from support.prepared import prepare_vggsound, write_videos


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the videos, their list, and the dataset `out`."""
    root = tmp_path_factory.mktemp("prepared")
    write_videos(root)
    prepare_vggsound(root)
    return root


@pytest.fixture
def out(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the dataset that a test may change."""
    return Path(shutil.copytree(prepared / "out", tmp_path / "out"))


@pytest.fixture(scope="module", autouse=True)
def reports_are_quick() -> None:
    """Not here: the tests of `data show` and `data stats` check the audio and the plots of a page."""
