"""Proves from the commands that the containers and kinds that phones, cameras and recorders write are embedded and their delay
is found, with models that read the time from frames and audio; and that no file costs another one."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.clock_models import load_instead
from support.command_line import output_text, run
from support.field.expected import FieldFile
from support.field.muxing import MUXINGS, FieldFolder
from support.field.stream_kinds import (
    audio_first,
    cut_fast_start,
    held_middle,
    late_frames,
    plain,
    unknown_duration,
)
from support.known_shards import micro_model
from support.own_videos import OwnClock, metadata_of, read_times_s, table_of

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model

SECONDS = 9.0  # one chirp
PHONES_AND_CAMERAS = [
    "mp4_aac", "mov_pcm", "mkv_vorbis", "webm_opus", "avi_pcm", "ts_aac", "flv_aac", "wmv", "ogv", "3gp_aac",
]  # fmt: skip
FILES: dict[str, Callable[[FieldFolder, str], FieldFile]] = {
    **{name: partial(audio_first, MUXINGS[name], SECONDS) for name in PHONES_AND_CAMERAS},
    "held": partial(held_middle, MUXINGS["mp4_aac"]),
    "late": partial(late_frames, MUXINGS["mkv_flac"]),
    "cut": cut_fast_start,
    "piped": partial(unknown_duration, "webm_opus"),
}
STEP_S, WINDOW_S = 0.32, 0.64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of windows of 0.64 s."""
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    save_model(CavMaeSync(micro_model(audio_rows=64)), path)
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint is a model that reads the time."""
    load_instead(monkeypatch, OwnClock(fps=10))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FieldFile]:
    folder = tmp_path_factory.mktemp("field")
    (folder / "videos").mkdir()
    maker = FieldFolder(folder / "videos", folder / "sources")
    made = {name: make(maker, name) for name, make in FILES.items()}
    # Another frame rate, shorter than a clip and a half.
    made["short"] = plain(MUXINGS["mpg_mp2"], maker, "short")
    (folder / "videos" / "broken.ts").write_bytes(bytes(1000))
    return made


@pytest.fixture(scope="module")
def table(
    files: dict[str, FieldFile], weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, dict[str, dict[str, object]], str]:
    """The windows of the whole folder, what became of each file, and the output."""
    out = tmp_path_factory.mktemp("out") / "x.parquet"
    with pytest.MonkeyPatch.context() as patch:
        load_instead(patch, OwnClock(fps=10))
        result = run("embed", files["mp4_aac"].path.parent, "--out", out, "--checkpoint", weights)
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    listed = json.loads(metadata_of(out)[b"cavsync.files"])
    return table_of(out), {Path(one["file"]).name: one for one in listed}, output_text(result)


@pytest.mark.parametrize("name", [*FILES, "short"])
def test_every_file_of_the_folder_is_embedded_to_its_end(
    name: str,
    files: dict[str, FieldFile],
    table: tuple[pd.DataFrame, dict[str, dict[str, object]], str],
) -> None:
    windows, records, output = table
    file = files[name]
    assert file.path.name in records, output
    record = records[file.path.name]
    if name == "cut":
        assert str(record["reason"]).endswith("what could be read is used")
    else:
        assert record["state"] == "ok", record["reason"]
    assert record["duration_s"] == pytest.approx(file.end_s, abs=file.tolerance_s)
    own = windows[windows.file.map(lambda path: Path(path).name == file.path.name)]
    assert own.end_s.max() == pytest.approx(file.end_s, abs=file.tolerance_s + 0.03)
    assert len(own) == pytest.approx((file.end_s - WINDOW_S) / STEP_S + 1, abs=2)


@pytest.mark.parametrize("name", PHONES_AND_CAMERAS)
def test_embedded_windows_have_the_frame_and_the_audio_of_their_middle(
    name: str,
    files: dict[str, FieldFile],
    table: tuple[pd.DataFrame, dict[str, dict[str, object]], str],
) -> None:
    windows, _, _ = table
    file = files[name]
    own = windows[windows.file.map(lambda path: Path(path).name == file.path.name)]
    own = own[(own.start_s > 0.2) & (own.end_s < file.end_s - 0.1)]
    assert len(own) > 20
    middles_s = ((own.start_s + own.end_s) / 2).to_numpy()
    heard_s = read_times_s(own.audio) - file.audio_source_s
    np.testing.assert_allclose(heard_s, middles_s, atol=0.02)
    shown = np.rint(read_times_s(own.image) * 10).astype(int)
    allowed = [{file.position_at(middle_s + by_s) for by_s in (-0.012, 0.0, 0.012)} for middle_s in middles_s]
    assert all(number in numbers for number, numbers in zip(shown, allowed, strict=True))
    begins_s = np.array([file.frame_times_s[number] for number in shown])
    np.testing.assert_allclose(own.frame_s.to_numpy(), begins_s, atol=2e-3)


def test_a_file_that_is_none_costs_itself_only(
    table: tuple[pd.DataFrame, dict[str, dict[str, object]], str],
) -> None:
    _, records, output = table
    assert records["broken.ts"]["state"] == "decode_error"
    assert "broken.ts" in output


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", PHONES_AND_CAMERAS)
def test_the_delay_of_a_video_in_step_is_none(
    name: str, files: dict[str, FieldFile], weights: Path, tmp_path: Path
) -> None:
    options = ("--checkpoint", weights, "--out", tmp_path / "out", "--json")
    result = run("eval", "synchrony", "--video", files[name].path, *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["results"]
    # A frame is on screen for 0.1 s: on average it is half of that old.
    assert report["peak"]["delay_s"] == pytest.approx(0.0, abs=0.11)
    assert report["verdict"] == "in step"
