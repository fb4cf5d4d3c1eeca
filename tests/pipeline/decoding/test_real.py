"""Proves decoding on real clips, where CAVSYNC_REAL_DATA names a folder with clips/ and lists/."""

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.reference.mel import torchaudio_mel
from typer.testing import CliRunner

from cavsync.cli.main import app
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.index_row import IndexRow, index_rows
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.reader import Dataset, read_clip
from cavsync.pipeline.lists.clip_list import read_list
from cavsync.pipeline.lists.manifest import load_manifest
from cavsync.pipeline.media.backends.choice import open_media

pytestmark = pytest.mark.real

EDIT_LIST = "KlsG1EnBEjc_000361"


@pytest.fixture(scope="module")
def real_data() -> Path:
    if "CAVSYNC_REAL_DATA" not in os.environ:
        pytest.skip("CAVSYNC_REAL_DATA names no folder of real clips")
    return Path(os.environ["CAVSYNC_REAL_DATA"])


@pytest.fixture(scope="module")
def dataset(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "data"
    result = CliRunner().invoke(app, ["prepare", "folder", str(real_data / "clips"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def rows(dataset: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in (dataset / "index").iterdir()])


@pytest.fixture(scope="module")
def usable(dataset: Path) -> list[IndexRow]:
    return index_rows(Dataset.open(dataset).index_table("train"))


def test_every_clip_ends_in_a_state(real_data: Path, dataset: Path, rows: pd.DataFrame) -> None:
    assert (
        len(rows) == len(list((real_data / "clips").iterdir())) == Dataset.open(dataset).summary["num_listed"]
    )
    states = rows.set_index(rows["source"].map(lambda path: Path(path).stem))["state"]
    for name in ("00W1lcxW-WU_40.000", "-0pJqpNjft4_000267", "decord_flipping_a_pancake", EDIT_LIST):
        assert states[name] == "ok"
    assert states["torchcodec_av1_video"] == states["decord_corrupted"] == "no_audio"
    assert states["small_mp4-with-audio"] == "no_video"


def all_frames(path: Path, size: tuple[int, int]) -> list[tuple[float, np.ndarray]]:
    """(presentation time, grey image) of everything that the ffmpeg program shows, the edit list applied."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostats", "-copyts", "-i", f"file:{path}"]
    shown = ["-vf", f"scale={size[0]}:{size[1]},format=gray,showinfo", "-fps_mode", "passthrough"]
    done = subprocess.run([*command, *shown, "-f", "rawvideo", "-"], check=True, capture_output=True)
    times_s = [float(time_s) for time_s in re.findall(r" pts_time:([\d.]+)", done.stderr.decode())]
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, size[1], size[0]).astype(float)
    return list(zip(times_s, frames, strict=True))


def test_frames_behind_an_edit_list_are_those_on_screen(
    real_data: Path, dataset: Path, usable: list[IndexRow]
) -> None:
    (row,) = (row for row in usable if row.clip_id == EDIT_LIST)
    assert row.clip is not None
    pts_s = np.array(row.clip.frame_pts_s)
    assert np.abs(pts_s - (np.arange(16) + 0.5) * row.clip.duration_s / 16).max() < 1 / 29.9
    width = round(224 * 1280 / 720)
    shown = all_frames(real_data / "clips" / f"{EDIT_LIST}.mp4", (width, 224))
    left = (width - 224) // 2
    for frame_s, jpeg in zip(pts_s, read_clip(DatasetPaths(dataset), row).frames, strict=True):
        frame = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).astype(float)
        # ffmpeg's grey is limited range and differently rounded: compare the shape of the brightness.
        distances = [
            np.abs(_normalised(frame) - _normalised(image[:, left : left + 224])).mean() for _, image in shown
        ]
        best_s = shown[int(np.argmin(distances))][0]
        assert best_s == pytest.approx(frame_s, abs=1 / 30)


def _normalised(image: np.ndarray) -> np.ndarray:
    centred = image - image.mean()
    normalised: np.ndarray = centred / centred.std()
    return normalised


def test_stored_log_mels_are_torchaudios(dataset: Path, usable: list[IndexRow]) -> None:
    for row in usable:
        with open_media(str(row.source), 60.0) as media:
            waveform = media.decode(0.0, 10.0, PrepareConfig()).waveform
        expected = torchaudio_mel(waveform.copy())
        stored = read_clip(DatasetPaths(dataset), row).mel.astype(np.float32)
        np.testing.assert_allclose(stored, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("dataset_name", "name", "columns", "count"),
    [("audioset", "eval_segments.csv", 4, 20_371), ("vggsound", "test.csv", 2, 15_446)],
)
def test_official_lists_have_their_official_size(
    dataset_name: str, name: str, columns: int, count: int, real_data: Path
) -> None:
    spec = load_manifest(dataset_name).spec_for(name, columns)
    clips = list(read_list(real_data / "lists" / name, spec))
    assert len(clips) == len({(clip.clip_id, clip.start_s) for clip in clips}) == spec.count == count


def test_an_official_list_with_a_handful_of_videos_adds_up(real_data: Path, tmp_path: Path) -> None:
    paths = ["--list", str(real_data / "lists" / "test.csv"), "--videos", str(real_data / "clips")]
    result = CliRunner().invoke(app, ["prepare", "vggsound", *paths, "--out", str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    assert "15,446 listed clips" in result.output
    states = Dataset.open(tmp_path / "data").summary["states"]
    assert sum(states.values()) == 15_446
    assert states["ok"] >= 1


@pytest.fixture
def large_folder(tmp_path: Path) -> Iterator[Path]:
    """Gone after the test, unlike others: a full-size run leaves 3 GB."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


@pytest.mark.timeout(900)  # minutes on one thread beside other tests
@pytest.mark.slow
def test_the_full_size_model_takes_real_steps(dataset: Path, large_folder: Path) -> None:
    sets = [
        "--set",
        "initial_weights=none",
        "--set",
        "precision=float32",
        "--set",
        "batch_size=2",
        "--set",
        "log_every_steps=1",
        "--num-workers",
        "0",
        "--device",
        "cpu",
    ]
    run = ["--data", str(dataset), "--run", str(large_folder), "--steps", "2", "--no-estimate"]
    result = CliRunner().invoke(app, ["train", "pretrain", "--preset", "sync-base", *run, *sets])
    assert result.exit_code == 0, result.output
    steps = pd.read_json(large_folder / "metrics.jsonl", lines=True)
    # Normalised patches have variance 1, so an untrained model is wrong by more than that, and by little more.
    assert steps["reconstruction_image"].iloc[1] < steps["reconstruction_image"].iloc[0] < 3
    assert steps["grad_norm"].between(0.1, 100).all()
    described = CliRunner().invoke(app, ["checkpoint", "inspect", str(large_folder), "--json"])
    assert json.loads(described.stdout)["num_official_parameters"] == 190_660_864
