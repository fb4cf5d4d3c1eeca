"""Proves that the public names of `cavsync` exist, work on a run and a dataset, and load nothing until they are used."""

import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tarfile import TarFile
from typing import get_args

import numpy as np
import pytest
from support.known_shards import micro_run, write_known_shards
from support.media import write_clip

import cavsync
from cavsync.train.choices import MapMethod
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.pretrain.trainer import pretrain

NUM_CLIPS = 12
pytestmark = pytest.mark.usefixtures("quick_decoders")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("data"), num_clips=NUM_CLIPS)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "micro"
    pretrain(micro_run(dataset), folder, device="cpu")
    return folder


def read_member(tar: TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    assert member is not None
    return member.read()


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


def test_a_row_of_the_index_gives_the_frames_and_the_log_mel_of_its_clip(dataset: Path) -> None:
    opened = cavsync.Dataset.open(dataset)
    rows = opened.index("train")
    for _, row in rows.iterrows():
        clip = opened.clip(row)
        with TarFile.open(dataset / "shards" / f"{row['shard']}.tar") as tar:
            members = {name: read_member(tar, name) for name in tar.getnames() if name.startswith(row["key"])}
        assert clip.frames == [content for name, content in sorted(members.items()) if name.endswith(".jpg")]
        np.testing.assert_array_equal(clip.mel, np.load(io.BytesIO(members[f"{row['key']}.mel.npy"])))
    with pytest.raises(cavsync.CavsyncError, match=r"lacks frame_offset, .* take a row of `index\(role\)`"):
        opened.clip(opened.index("train", ["key"]).iloc[0])


def test_a_file_that_gives_nothing_is_an_error_that_names_it(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    for name in ("empty.mp4", "absent.mp4"):
        for use in (cavsync.embed, cavsync.localize):
            with pytest.raises(cavsync.CavsyncError, match=f"{name} cannot be (used|embedded): "):
                use(tmp_path / name, run)


def test_a_video_gets_a_heatmap_for_each_window_by_the_method_that_is_named(
    run: Path, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 2.0)
    loaded = LoadedCheckpoint.load(run)
    for method in get_args(MapMethod):
        found = cavsync.localize(clip.path, loaded, method=method, step_s=0.2)
        assert found.maps[method].shape == (len(found.start_s), *loaded.model.config.image_grid)
        assert np.isfinite(found.maps[method]).all()
        assert found.verdict == "cannot tell"


def test_frames_are_compared_with_the_most_similar_segment_of_the_audio_that_is_given(
    run: Path, tmp_path: Path
) -> None:
    clip, other = write_clip(tmp_path / "clip.mp4", 1.0), write_clip(tmp_path / "other.mp4", 2.0)
    loaded = LoadedCheckpoint.load(run)
    frames = cavsync.embed(clip.path, loaded, step_s=0.2).image
    segments = cavsync.embed(other.path, loaded, step_s=loaded.window.rows / 100).audio
    found = cavsync.localize(clip.path, loaded, method="denseav", step_s=0.2, audio=other.path)
    np.testing.assert_allclose(found.similarity, (frames @ segments.T).max(axis=1), atol=1e-5)


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
