"""Proves that the public names of `cavsync` exist, work on a run and a dataset, and load nothing until they are used."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from support.known_shards import micro_run, write_known_shards
from support.media import write_clip

import cavsync
from cavsync.train.pretrain.trainer import pretrain

NUM_CLIPS = 12


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("data"), num_clips=NUM_CLIPS)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "micro"
    pretrain(micro_run(dataset), folder, device="cpu")
    return folder


def test_importing_the_door_loads_no_heavy_library() -> None:
    code = "import sys, cavsync; print({'torch', 'ray', 'av', 'pandas', 'pyarrow'} & set(sys.modules) or 'light')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "light"


def test_every_promised_name_is_documented_and_there() -> None:
    assert cavsync.__version__ == version("cavsync")
    for name in set(cavsync.__all__) - {"__version__"}:
        assert getattr(cavsync, name).__doc__
        assert f"\n{name} " in (cavsync.__doc__ or "")
    assert set(cavsync.__all__) == set(dir(cavsync))


def test_another_name_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'load'; it has .*load_model"):
        cavsync.load  # noqa: B018


def test_a_run_gives_its_configuration_its_curves_and_its_model(run: Path, dataset: Path) -> None:
    opened = cavsync.open_run(run)
    assert opened.config["data"]["path"] == str(dataset)
    assert opened.metrics()["step"].is_monotonic_increasing
    assert opened.metrics()["step"].iloc[-1] == opened.config["num_steps"]
    assert opened.validation().empty  # this dataset has no split to validate on
    stored, loaded = cavsync.load_model(opened.weights).state_dict(), opened.load_model().state_dict()
    assert all((stored[name] == loaded[name]).all() for name in stored)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cavsync.CavsyncError, match=r"holds no run: config.json is not there"):
        cavsync.open_run(tmp_path)


def test_a_dataset_gives_its_index(dataset: Path) -> None:
    assert len(cavsync.Dataset.open(dataset).index("train")) == NUM_CLIPS


def test_a_video_becomes_unit_vectors_with_times(run: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 12.0)
    embedded = cavsync.embed(clip.path, run)
    width = cavsync.open_run(run).config["model"]["embed_dim"]
    assert embedded.audio.shape == embedded.image.shape == (len(embedded.start_s), width)
    np.testing.assert_allclose(np.linalg.norm(embedded.audio, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedded.image, axis=1), 1, atol=1e-5)
    assert (embedded.start_s < embedded.frame_s).all()
    assert (embedded.frame_s < embedded.end_s).all()
    assert 0 <= embedded.start_s[0] < embedded.end_s[-1] <= 12
