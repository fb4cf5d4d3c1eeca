"""Proves what `cavsync embed` makes of a user's files: the windows, their frames and audio, from whole and broken
files; that it continues where it stopped; and that it loses nothing that is there."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.clock_models import PERIOD_S, VideoClock, load_instead
from support.command_line import output_text, run
from support.known_shards import micro_model
from support.media import KnownClip, run_ffmpeg, silence, write_clip
from support.own_videos import (
    STEP_S,
    WINDOW_S,
    OwnClock,
    from_second,
    metadata_of,
    read_times_s,
    table_of,
)

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.pipeline.decoding.windows import MOST_WINDOWS
from cavsync.train.embedding.embed import Embedder, embed

SECONDS = 3.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of windows of 0.64 s."""
    path = tmp_path_factory.mktemp("weights") / "micro.safetensors"
    save_model(CavMaeSync(micro_model(audio_rows=64)), path)
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VideoClock:
    """Replaces the model that commands load."""
    model = OwnClock()
    load_instead(monkeypatch, model)
    return model


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> KnownClip:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", SECONDS)


def records(out: Path) -> dict[str, dict[str, Any]]:
    """What became of each file, by its name."""
    listed = json.loads(metadata_of(out)[b"cavsync.files"])
    return {Path(one["file"]).name: one for one in listed}


def windows_of(duration_s: float) -> np.ndarray:
    """Where windows begin: every step while they lie inside, and one that ends with the file's last row of log-mel."""
    num_rows = 1 + (round(duration_s * 16_000) - 400) // 160
    rows, step = round(WINDOW_S * 100), round(STEP_S * 100)
    return np.unique([*range(0, num_rows - rows + 1, step), num_rows - rows]) / 100


# What a window is


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", ["plain", "edit_list_b_frames", "late_audio", "non_zero_start"])
def test_each_window_has_the_audio_and_the_frame_of_its_middle(
    name: str, known_clip: Callable[[str], KnownClip], weights: Path, tmp_path: Path
) -> None:
    known = known_clip(name)
    result = run("embed", known.path, "--out", tmp_path / "x.parquet", "--checkpoint", weights)
    assert result.exit_code == 0, result.output
    table = table_of(tmp_path / "x.parquet")
    # The file's streams may end a packet or a frame apart.
    assert len(table) == pytest.approx(len(windows_of(known.duration_s)), abs=1)
    np.testing.assert_allclose(table.start_s[:-1], STEP_S * np.arange(len(table) - 1), atol=1e-9)
    np.testing.assert_allclose(table.end_s - table.start_s, WINDOW_S)
    middles_s = ((table.start_s + table.end_s) / 2).to_numpy()
    audible = (table.start_s >= known.audio_start_s) & (table.end_s <= known.duration_s)
    audio_times_s = read_times_s(table.audio[audible])
    np.testing.assert_allclose(audio_times_s, known.source_start_s + middles_s[audible], atol=0.02)
    inside = (middles_s < known.duration_s - 0.1) & table.image.notna()
    assert inside.sum() >= len(table) - 1
    shown = read_times_s(table.image[inside]) * 25  # the clock counts 25 frames a second
    expected = [known.frame_number_at(time_s) for time_s in middles_s[inside]]
    assert np.abs(shown - expected).max() <= 1.01
    frame_s = table.frame_s[inside].to_numpy()
    assert (frame_s <= middles_s[inside] + 0.011).all()
    assert (frame_s >= middles_s[inside] - 0.06).all()


def test_a_file_of_many_stretches_has_every_window_once(
    known_clip: Callable[[str], KnownClip], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = OwnClock(fps=10)
    load_instead(monkeypatch, model)
    known = known_clip("two_minutes")
    run("embed", known.path, "--out", tmp_path / "x.parquet", "--checkpoint", weights)
    table = table_of(tmp_path / "x.parquet")
    assert len(table) > 5 * MOST_WINDOWS
    np.testing.assert_allclose(table.start_s[:-1], STEP_S * np.arange(len(table) - 1), atol=1e-9)
    middles_s = ((table.start_s + table.end_s) / 2).to_numpy()
    near_turn = np.abs((middles_s + 5) % 10 - 5) < 0.4  # there the chirp begins anew, within the window
    np.testing.assert_allclose(read_times_s(table.audio[~near_turn]), (middles_s % 10)[~near_turn], atol=0.02)
    expected = np.array([known.frame_number_at(time_s) / 10 for time_s in middles_s])
    apart_s = (read_times_s(table.image) - expected + PERIOD_S / 2) % PERIOD_S - PERIOD_S / 2
    assert np.abs(apart_s).max() <= 0.11


@pytest.mark.usefixtures("clock")
def test_the_step_is_the_users(clip: KnownClip, weights: Path, tmp_path: Path) -> None:
    run("embed", clip.path, "--out", tmp_path / "x.parquet", "--checkpoint", weights, "--step", "0.5")
    table = table_of(tmp_path / "x.parquet")
    np.testing.assert_allclose(table.start_s[:-1], 0.5 * np.arange(len(table) - 1), atol=1e-9)


def test_embeddings_are_unit_vectors_of_the_named_checkpoint(
    clip: KnownClip, weights: Path, tmp_path: Path
) -> None:
    run("embed", clip.path, "--out", tmp_path / "x.parquet", "--checkpoint", weights)
    table = table_of(tmp_path / "x.parquet")
    for side in ("audio", "image"):
        np.testing.assert_allclose(np.linalg.norm(np.stack(list(table[side])), axis=1), 1, atol=1e-5)
    about = json.loads(metadata_of(tmp_path / "x.parquet")[b"cavsync"])
    assert about["checkpoint"] == str(weights)
    assert (about["window_s"], about["step_s"]) == (WINDOW_S, STEP_S)
    windows = embed(clip.path, weights)
    np.testing.assert_array_equal(np.stack(list(table.audio)), windows.audio)


# Files that are not whole


def muted(path: Path) -> None:
    write_clip(path, SECONDS, audio_codec=None)


def silent(path: Path) -> None:
    write_clip(path, SECONDS, audio=silence)


def audio_alone(path: Path) -> None:
    write_clip(path, SECONDS, video_codec=None)


def blink(path: Path) -> None:
    """Shorter than a window."""
    write_clip(path.with_suffix(".mkv"), 0.4, audio_codec="pcm_s16le").path.rename(path)


def cut_off(path: Path) -> None:
    """An interrupted download: its first half."""
    whole = write_clip(path.with_suffix(".mkv"), 6.0).path
    content = whole.read_bytes()
    whole.unlink()
    path.write_bytes(content[: len(content) // 2])


def no_medium(path: Path) -> None:
    path.write_text("<html><title>410 Gone</title></html>\n" * 40)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("make", "state", "reason", "num_audio", "num_images"),
    [
        (muted, "no_audio", "it has no audio, or only silence; its frames are used", 0, 8),
        (silent, "no_audio", "it has no audio, or only silence; its frames are used", 0, 8),
        (audio_alone, "no_video", "it has no frames; its audio is used", 9, 0),
        (blink, "ok", None, 1, 1),
    ],
)
def test_a_file_gives_what_it_has(
    make: Callable[[Path], None],
    state: str,
    reason: str | None,
    num_audio: int,
    num_images: int,
    weights: Path,
    tmp_path: Path,
) -> None:
    make(tmp_path / "file.mp4")
    out = tmp_path / "x.parquet"
    result = run("embed", tmp_path / "file.mp4", "--out", out, "--checkpoint", weights)
    assert result.exit_code == 0, result.output
    (record,) = records(out).values()
    assert (record["state"], record["reason"]) == (state, reason)
    assert record["num_with_audio"] == pytest.approx(num_audio, abs=1)
    assert record["num_with_image"] == pytest.approx(num_images, abs=1)
    assert (record["num_with_audio"] > 0, record["num_with_image"] > 0) == (num_audio > 0, num_images > 0)
    table = table_of(out)
    assert table.audio.notna().sum() == record["num_with_audio"]  # null, not zeros
    assert table.image.notna().sum() == table.frame_s.notna().sum() == record["num_with_image"]
    # Another warning says that the weights do not state how their inputs were normalised.
    assert (reason is None) == (f"Warning: {tmp_path / 'file.mp4'}: " not in result.output)
    assert reason is None or reason in output_text(result)


@pytest.mark.usefixtures("clock")
def test_audio_that_begins_late_is_null_before(weights: Path, tmp_path: Path) -> None:
    known = write_clip(
        tmp_path / "late.mp4", SECONDS, audio=from_second(1.5, lambda t: 0.5 * np.sin(3000 * t))
    )
    run("embed", known.path, "--out", tmp_path / "x.parquet", "--checkpoint", weights)
    table = table_of(tmp_path / "x.parquet")
    audible = table.audio.notna()
    assert not audible[table.end_s < 1.4].any()
    assert audible[(table.start_s > 1.5) & (table.end_s < 2.9)].all()


@pytest.mark.usefixtures("clock")
def test_a_truncated_end_is_reported_and_the_rest_is_embedded(weights: Path, tmp_path: Path) -> None:
    cut_off(tmp_path / "half.mp4")
    out = tmp_path / "x.parquet"
    result = run("embed", tmp_path / "half.mp4", "--out", out, "--checkpoint", weights)
    record = records(out)["half.mp4"]
    assert record["state"] == "decode_error"
    assert "of 6.0 s" in record["reason"]
    assert 2 < record["duration_s"] < 4
    assert "what could be read is used" in output_text(result)
    middles_s = (table_of(out).start_s + table_of(out).end_s) / 2
    np.testing.assert_allclose(read_times_s(table_of(out).audio[:4]), middles_s[:4], atol=0.02)


@pytest.mark.usefixtures("clock")
def test_a_file_that_gives_nothing_has_a_state_and_the_others_are_embedded(
    clip: KnownClip, weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    (folder / "below").mkdir(parents=True)
    shutil.copy(clip.path, folder / "below" / "good.mp4")
    no_medium(folder / "text.mp4")
    no_medium(folder / "two\nlines.mp4")
    (folder / "empty.mp4").touch()
    (folder / ".hidden.mp4").touch()
    (folder / "notes.txt").write_text("no medium")
    out = tmp_path / "x.parquet"
    result = run("embed", folder, "--out", out, "--checkpoint", weights)
    assert result.exit_code == 0, result.output
    assert {name: one["state"] for name, one in records(out).items()} == {
        "good.mp4": "ok",
        "text.mp4": "decode_error",
        "two\nlines.mp4": "decode_error",
        "empty.mp4": "decode_error",
    }
    assert f"Warning: {str(folder / 'two')!r}"[:-1] + "\\nlines.mp4': decode_error: " in output_text(result)
    assert "empty.mp4: decode_error: the file is empty" in output_text(result)
    assert set(table_of(out).file) == {str(folder / "below" / "good.mp4")}


# Which files


@pytest.mark.usefixtures("clock")
def test_a_list_names_files_beside_it_each_once(clip: KnownClip, weights: Path, tmp_path: Path) -> None:
    shutil.copy(clip.path, tmp_path / "one clip.mp4")
    (tmp_path / "list.txt").write_text("# mine\none clip.mp4\n\ngone.mp4\none clip.mp4\n")
    out = tmp_path / "x.parquet"
    result = run("embed", tmp_path / "list.txt", "--out", out, "--checkpoint", weights, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(Path(line["file"]).name, line["state"]) for line in lines[:-1]] == [
        ("one clip.mp4", "ok"),
        ("gone.mp4", "missing"),
    ]
    assert lines[-1]["states"] == {"missing": 1, "ok": 1}
    assert lines[-1]["windows"] == len(table_of(out))


@pytest.mark.usefixtures("clock")
def test_a_folder_is_searched_and_the_rest_is_counted(clip: KnownClip, weights: Path, tmp_path: Path) -> None:
    folder, below = tmp_path / "videos", tmp_path / "other disk"
    folder.mkdir()
    below.mkdir()
    for path in (folder / "A.MP4", below / "b.m4v", folder / ".c.mp4"):
        shutil.copy(clip.path, path)
    (folder / "link").symlink_to(below)
    (folder / "back").symlink_to(folder)
    (folder / "notes.txt").write_text("no medium")
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    arguments = ("embed", folder, "--out", tmp_path / "x.parquet", "--checkpoint", weights)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert output_text(result).startswith(f"2 files in {folder} (1 mp4, 1 m4v); left out: ")
    for part in ("1 mp4 (broken link)", "1 mp4 (hidden)", "1 txt (not a suffix of video or audio)"):
        assert part in output_text(result)
    assert {name: one["state"] for name, one in records(tmp_path / "x.parquet").items()} == {
        "A.MP4": "ok",
        "b.m4v": "ok",
    }
    last = json.loads(run(*arguments, "--json").stdout.splitlines()[-1])
    assert sum(one["number"] for one in last["left_out"]) == 4
    assert json.loads(metadata_of(tmp_path / "x.parquet")[b"cavsync"])["left_out"] == last["left_out"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.mp4", "--out", "x.parquet"], 1, "nowhere.mp4 is not there"),
        (["pipe.mp4", "--out", "x.parquet"], 1, "pipe.mp4 is no regular file"),
        (["bare", "--out", "x.parquet"], 1, "bare holds no video and no audio file"),
        (["empty.txt", "--out", "x.parquet"], 1, "empty.txt names no file"),
        (["clip.mp4", "--out", "bare"], 1, "bare is a folder; name a file"),
        (["clip.mp4", "--out", "clip.mp4"], 1, "clip.mp4 is there and would be lost"),
        (["clip.mp4", "--out", "x.parquet", "--step", "0.7"], 1, "must lie between 0.01 s and the 0.64 s"),
        (["text.mp4", "--out", "x.parquet"], 1, "no file has a window to embed"),
        (["clip.mp4", "--out", "x.parquet", "--checkpoint", "nowhere"], 1, "nowhere is not there"),
        (["clip.mp4"], 2, "Missing option"),
    ],
)
def test_wrong_usage_is_refused_in_one_message(
    arguments: list[str],
    code: int,
    message: str,
    clip: KnownClip,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip.path, "clip.mp4")
    Path("bare").mkdir()
    os.mkfifo("pipe.mp4")
    Path("empty.txt").touch()
    no_medium(Path("text.mp4"))
    chosen = [] if "--checkpoint" in arguments else ["--checkpoint", weights]
    result = run("embed", *arguments, *chosen)
    assert result.exit_code == code
    assert message in output_text(result)
    assert "Traceback" not in result.output
    assert Path("clip.mp4").read_bytes() == clip.path.read_bytes()


def test_a_model_that_answers_nan_is_refused(clip: KnownClip, tmp_path: Path) -> None:
    model = CavMaeSync(micro_model(audio_rows=64))
    next(model.parameters()).data.fill_(float("nan"))
    save_model(model, tmp_path / "nan.safetensors")
    result = run(
        "embed", clip.path, "--out", tmp_path / "x.parquet", "--checkpoint", tmp_path / "nan.safetensors"
    )
    assert result.exit_code == 1
    assert "did its training diverge?" in output_text(result)
    assert not (tmp_path / "x.parquet").exists()


# Many files, and interruptions


@pytest.fixture
def three(clip: KnownClip, tmp_path: Path) -> Path:
    folder = tmp_path / "three"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(clip.path, folder / name)
    return folder


@pytest.mark.usefixtures("clock")
def test_an_interrupted_run_continues_with_the_files_that_are_not_done(
    three: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, names, embed = tmp_path / "x.parquet", [], Embedder.embed

    def until_c(self: Embedder, path: Path, *rest: Any) -> Any:
        names.append(path.name)
        if names == ["a.mp4", "b.mp4", "c.mp4"]:
            raise KeyboardInterrupt
        return embed(self, path, *rest)

    monkeypatch.setattr(Embedder, "embed", until_c)
    command = ("embed", three, "--out", out, "--checkpoint", weights)
    assert run(*command).exit_code == 130
    assert not out.exists()
    run_ffmpeg("-i", three / "c.mp4", "-t", "1", three / "new.mp4")
    (three / "new.mp4").replace(three / "b.mp4")  # another file by the same name
    assert run(*command).exit_code == 0
    assert names[3:] == ["b.mp4", "c.mp4"]
    assert [name for name, one in records(out).items() if one["state"] == "ok"] == ["a.mp4", "b.mp4", "c.mp4"]
    assert records(out)["b.mp4"]["num_windows"] < records(out)["a.mp4"]["num_windows"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three", "x.parquet"]


@pytest.mark.usefixtures("clock")
def test_embeddings_of_two_precisions_are_not_mixed(
    three: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where an interrupted command goes on in another one, and not in a file that is there."""
    out, names, embed = tmp_path / "x.parquet", [], Embedder.embed

    def until_b(self: Embedder, path: Path, *rest: Any) -> Any:
        names.append((path.name, self.checkpoint.precision))
        if names == [("a.mp4", "float32"), ("b.mp4", "float32")]:
            raise KeyboardInterrupt
        return embed(self, path, *rest)

    monkeypatch.setattr(Embedder, "embed", until_b)
    command = ("embed", three, "--out", out, "--checkpoint", weights)
    assert run(*command).exit_code == 130
    assert run(*command, "--precision", "bfloat16").exit_code == 0
    assert names[2:] == [("a.mp4", "bfloat16"), ("b.mp4", "bfloat16"), ("c.mp4", "bfloat16")]
    assert json.loads(metadata_of(out)[b"cavsync"])["precision"] == "bfloat16"
    result = run(*command)
    assert result.exit_code == 1
    assert "their precision is bfloat16, now it is float32" in output_text(result)


@pytest.mark.slow
def test_ray_workers_write_what_one_process_writes(three: Path, weights: Path, tmp_path: Path) -> None:
    no_medium(three / "text.mp4")
    for workers in (1, 2):
        out = tmp_path / f"{workers}.parquet"
        result = run("embed", three, "--out", out, "--checkpoint", weights, "--workers", workers)
        assert result.exit_code == 0, result.output
    one, two = table_of(tmp_path / "1.parquet"), table_of(tmp_path / "2.parquet")
    assert one.drop(columns=["audio", "image"]).equals(two.drop(columns=["audio", "image"]))
    for side in ("audio", "image"):
        np.testing.assert_allclose(np.stack(list(one[side])), np.stack(list(two[side])), atol=1e-6)
    assert records(tmp_path / "1.parquet") == records(tmp_path / "2.parquet")
