"""Proves `cavsync data duplicates` from the command: copies of recordings are found with their times, and near misses are not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from support.command_line import output_text, run
from support.media import run_ffmpeg
from support.recordings.made import FAST, copy, write_recording

from cavsync.pipeline.dataset.reader import Dataset

LENGTH_S = 7.0
# Of each copy of `a` and `b`: how it matches, the start of the copy on the original's clock, mirrored.
COPIES = {
    ("a", "a_small"): ("both", 0.0, False),
    ("a", "a_later"): ("both", 1.3, False),
    ("a", "a_mirrored"): ("both", 0.0, True),
    ("a", "a_bars"): ("both", 0.0, False),
    ("a", "a_dubbed"): ("frames", 0.0, False),
    ("b", "b_music"): ("audio", 0.0, False),
}


@pytest.fixture(scope="module", autouse=True)
def decoders_are_quick(quick_decoders: None) -> None:
    """What is tested is the command."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a and b, copies of them, `a_next`, which goes on where a ends, and two clips with nothing to see or hear."""
    folder = tmp_path_factory.mktemp("videos")
    parts = tmp_path_factory.mktemp("parts")
    whole = write_recording(parts / "whole.mp4", 1, 2 * LENGTH_S)
    a = copy(whole, folder / "a.mp4", "-t", str(LENGTH_S))
    copy(whole, folder / "a_next.mp4", start_s=LENGTH_S)
    b = write_recording(folder / "b.mp4", 2, LENGTH_S)
    c, d = (write_recording(parts / f"{seed}.mp4", seed, LENGTH_S) for seed in (3, 4))
    copy(a, folder / "a_small.mkv", "-vf", "scale=64:48", "-c:a", "libopus", "-b:a", "32k")
    copy(a, folder / "a_later.mp4", "-af", "volume=0.2", start_s=1.3)
    copy(a, folder / "a_mirrored.mp4", "-vf", "hflip")
    copy(a, folder / "a_bars.mp4", "-vf", "pad=iw:ih*3/2:0:(oh-ih)/2")
    copy(a, folder / "a_dubbed.mp4", audio=c)
    copy(d, folder / "b_music.mp4", audio=b)
    for name in ("black", "blank"):
        sources = ("-f", "lavfi", "-i", "color=black:s=96x72:r=10", "-f", "lavfi", "-i", "anullsrc=r=16000")
        run_ffmpeg(*sources, "-t", "7", *FAST, folder / f"{name}.mp4")
    return folder


@pytest.fixture(scope="module")
def dataset(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(videos, tmp_path_factory.mktemp("data") / "set")


def prepared(videos: Path, out: Path, *options: str) -> Path:
    result = run("prepare", "folder", videos, "--out", out, "--frame-size", "64", "--workers", "1", *options)
    assert result.exit_code == 0, result.output
    return out


def duplicates(*options: object) -> Result:
    result = run("data", "duplicates", *options)
    assert "Traceback" not in result.output
    return result


def found_pairs(folder: Path) -> dict[tuple[str, str], Any]:
    """Names of two clips -> how they match, the start of the second on the first one's clock, mirrored."""
    pairs = {}
    for row in pd.read_parquet(folder / "pairs.parquet").itertuples():
        names = row.key.rpartition("_")[0], row.other.rpartition("_")[0]
        ordered, sign = (names, 1) if names[0] < names[1] else (names[::-1], -1)
        pairs[ordered] = (row.matched, pytest.approx(sign * row.offset_s, abs=0.35), row.mirrored)
    return pairs


def test_copies_are_found_with_their_times_and_nothing_else(dataset: Path, tmp_path: Path) -> None:
    result = duplicates(dataset, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    found = found_pairs(tmp_path)
    assert {pair: found.get(pair) for pair in COPIES} == COPIES
    # Copies of one clip are pairs too; every pair is within a or within b.
    assert {(one[0], other[0]) for one, other in found} == {("a", "a"), ("b", "b")}
    assert not any("a_next" in pair for pair in found)
    pairs = pd.read_parquet(tmp_path / "pairs.parquet")
    by_audio = pairs[pairs["matched"] != "frames"]
    assert (by_audio["audio_similarity"] >= 0.35).all()
    later = by_audio[(by_audio["key"].str[:7] == "a_later") ^ (by_audio["other"].str[:7] == "a_later")]
    assert later["offset_s"].abs().max() == pytest.approx(
        1.3, abs=0.03
    )  # from audio, to a few rows of the log-mel
    assert later["overlap_s"].max() == pytest.approx(LENGTH_S - 1.3, abs=0.1)
    page = (tmp_path / "duplicates.html").read_text()
    assert "a_mirrored_00000000" in page
    assert 'src="data:image/png;base64,' in page


def test_a_subset_without_repeated_clips_has_each_recording_once(dataset: Path, tmp_path: Path) -> None:
    assert duplicates(dataset, "--out", tmp_path).exit_code == 0
    scores = ("--scores", tmp_path / "clips.parquet", "--keep", "duplicate_of is null")
    result = run("data", "subset", dataset, "--out", tmp_path / "clean", *scores)
    assert result.exit_code == 0, result.output
    left = set(Dataset.open(tmp_path / "clean").index("all")["clip_id"])
    copies_of_a = {"a", "a_small", "a_later", "a_mirrored", "a_bars"}
    assert len(left & copies_of_a) == 1
    # Those that share only audio or only frames are kept, and named in columns of their own.
    assert left - copies_of_a == {"a_next", "a_dubbed", "b", "b_music", "black", "blank"}
    clips = pd.read_parquet(tmp_path / "clips.parquet").set_index("key")
    assert clips.loc[["b_00000000", "b_music_00000000"], "same_audio_as"].notna().sum() == 1


def test_datasets_with_other_frames_are_compared(videos: Path, dataset: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    for name in ("a_later.mp4", "b.mp4", "black.mp4"):
        shutil.copy(videos / name, some / f"again_{name}")
    other = prepared(some, tmp_path / "other", "--frame-size", "48", "--num-frames", "10", "--crop", "none")
    result = duplicates(dataset, other, "--out", tmp_path / "pairs", "--json")
    summary = json.loads(result.stdout)
    assert (summary["num_clips"], summary["num_others"]) == (11, 3)
    pairs = pd.read_parquet(tmp_path / "pairs" / "pairs.parquet")
    assert pairs["other"].str.startswith("again_").all()
    assert not pairs["key"].str.startswith("again_").any()
    both = pairs[pairs["matched"] == "both"]
    assert set(both["key"]) >= {"a_00000000", "a_later_00000000", "b_00000000"}
    clips = pd.read_parquet(tmp_path / "pairs" / "clips.parquet").set_index("key")["duplicate_of"]
    assert clips["b_00000000"] == "again_b_00000000"
    assert clips.isna()[["a_next_00000000", "black_00000000"]].all()


def test_a_second_run_reads_the_fingerprints_and_writes_the_same(dataset: Path, tmp_path: Path) -> None:
    kept = ("--fingerprints", tmp_path / "kept")
    assert duplicates(dataset, "--out", tmp_path / "one", *kept).exit_code == 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(made) == 1
    assert duplicates(dataset, "--out", tmp_path / "two", *kept).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == made
    for name in ("pairs.parquet", "clips.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_cannot_be_compared_is_named(dataset: Path, tmp_path: Path) -> None:
    assert "OTHER is DIR" in output_text(duplicates(dataset, dataset))
    old = Path(shutil.copytree(dataset, tmp_path / "old"))
    summary = json.loads((old / "dataset.json").read_text())
    (old / "dataset.json").write_text(json.dumps(summary | {"schema_version": 1}))
    refused = duplicates(dataset, old)
    assert refused.exit_code == 1
    assert f"{old} has schema version 1" in output_text(refused).replace(" /", "/")
    broken = Path(shutil.copytree(dataset, tmp_path / "broken"))
    tar = next((broken / "shards").iterdir())
    tar.write_bytes(bytes(tar.stat().st_size))
    failed = duplicates(broken, "--fingerprints", tmp_path / "new")
    assert failed.exit_code == 1
    assert "data validate" in output_text(failed)
    assert "cannot be read" in output_text(failed)
