"""Proves that the Python examples of the README and of docs/exporting.md run as they stand."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.known_shards import micro_model, micro_run, write_known_shards
from support.media import write_clip
from support.servers.small_hub import small_hub
from typer.testing import CliRunner

from cavsync.cli.main import app
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.embedding.embed import embed
from cavsync.train.pretrain.trainer import pretrain

ROOT = Path(__file__).parents[2]


def examples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user stands who has trained a model as runs/mine and filmed holiday.mp4."""
    folder = tmp_path_factory.mktemp("root")
    pretrain(micro_run(write_known_shards(folder / "data")), folder / "runs" / "mine", device="cpu")
    write_clip(folder / "holiday.mp4", duration_s=6.0)
    return folder


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    return folder


def test_the_readme_gives_features_of_a_video_in_ten_lines(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = examples("README.md")[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102 (our own page)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    # A window of 0.32 s begins every 0.16 s, and the last one ends with the video.
    middles_s = np.array([*np.arange(36) * 0.16, 6 - 0.32]) + 0.16
    assert all(abs(float(similarity)) <= 1 for *_, similarity in printed)
    assert [float(time) for time, *_ in printed] == pytest.approx(middles_s, abs=0.05)


def test_features_are_unit_vectors_of_every_window_and_the_frame_in_its_middle(in_folder: Path) -> None:
    (features,) = embed(["holiday.mp4"], LoadedCheckpoint.load("runs/mine"), step_s=0.3)
    shape = len(features.start_s), micro_model().embed_dim
    assert features.audio.shape == features.image.shape == shape
    for vectors in (features.audio, features.image):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features.end_s - features.start_s, micro_model().audio_rows / 100)
    np.testing.assert_allclose(np.diff(features.start_s)[:-1], 0.3)
    np.testing.assert_allclose((features.start_s + features.end_s) / 2, features.frame_s, atol=0.05)


def test_several_videos_are_embedded_as_documented(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("holiday.mp4", "party.mp4")
    exec(examples("docs/own-videos.md")[0], {})  # noqa: S102 (our own page)
    assert "nan" not in capsys.readouterr().out


def test_the_exported_encoder_runs_as_documented(in_folder: Path) -> None:
    exported = CliRunner().invoke(app, ["checkpoint", "export", "runs/mine", "out", "--format", "onnx"])
    assert exported.exit_code == 0, exported.output
    log_mel = np.full((2, micro_model().audio_rows, 128), -5, np.float32)
    names: dict[str, object] = {"log_mel": log_mel}
    exec(examples("docs/exporting.md")[0], names)  # noqa: S102 (our own page)
    tokens = names["global_token"]
    assert isinstance(tokens, np.ndarray)
    assert tokens.shape == (2, micro_model().embed_dim)


def test_a_model_goes_to_the_hub_as_documented(in_folder: Path, tmp_path: Path) -> None:
    with small_hub(tmp_path / "hub") as address:
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_none"}
        command = [sys.executable, "-c", examples("docs/exporting.md")[1]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hub" / "model.safetensors").is_file()
