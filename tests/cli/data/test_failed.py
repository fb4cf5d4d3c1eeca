"""Proves that every clip that is not ok is listed with its file and its reason, and that all counts of clips agree."""

import csv
import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from support.command_line import output_text, prepare, run
from support.media import write_clip
from support.prepared import data

SMALL = ("--num-frames", "2", "--frame-size", "32", "--max-failure-rate", "1")
LISTED = ("a.mp4", "b.mp4", "a.mp4", "never.mp4", "bad one.mp4", "bad two.mp4", "blink.mp4", "lost/x.mp4")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good files, two broken, one too short, and two that are listed and are not there; one is listed twice."""
    root = tmp_path_factory.mktemp("failed")
    (root / "videos").mkdir()
    write_clip(root / "videos" / "a.mp4", 1.5)
    write_clip(root / "videos" / "blink.mp4", 0.32)
    shutil.copy(root / "videos" / "a.mp4", root / "videos" / "b.mp4")
    for name in ("bad one.mp4", "bad two.mp4"):
        (root / "videos" / name).write_bytes(bytes(1000))
    (root / "list.csv").write_text("\n".join(["file", *LISTED, ""]))
    return root


@pytest.fixture(scope="module")
def said(root: Path) -> str:
    """The output of the preparation."""
    files = (root / "list.csv", "--videos", root / "videos", "--out", root / "out")
    code, text = prepare("manifest", *files, *SMALL)
    assert code == 0, text
    return text


def test_plan_table_and_status_count_the_same_clips(said: str, root: Path) -> None:
    assert (
        "Planned 8 clips in 1 shard: 5 with a video, 2 without (missing), 1 listed before (duplicate)."
        in said
    )
    assert "8 listed clips" in said
    status = json.loads(data("status", root / "out", "--json").stdout)
    assert status["states"] == {"ok": 2, "missing": 2, "decode_error": 2, "duplicate": 1, "too_short": 1}
    assert status["num_clips"] == 8


def test_an_estimate_counts_files_that_are_not_there_as_missing(root: Path) -> None:
    files = (root / "list.csv", "--videos", root / "videos", "--out", root / "dry", "--dry-run", "--json")
    expected = json.loads(run("prepare", "manifest", *files, *SMALL).stdout.splitlines()[-1])
    assert (expected["num_found"], expected["num_missing"], expected["num_duplicate"]) == (5, 2, 1)


def test_the_table_names_the_most_frequent_reason_of_each_state(said: str, root: Path) -> None:
    for text in (said, output_text(data("status", root / "out"))):
        assert "2 of 2: the file is not there" in text
        assert "1 of 1: the clip is listed before, in an earlier row" in text
    reasons = json.loads(data("status", root / "out", "--json").stdout)["reasons"]
    assert reasons["missing"] == {"text": "the file is not there", "num_clips": 2, "num_counted": 2}
    assert reasons["decode_error"]["num_clips"] == 2


def test_a_file_that_never_existed_is_not_there(said: str, root: Path) -> None:
    result = data("status", root / "out", "--failed")
    assert f"{root / 'videos' / 'never.mp4'} is not there" in result.stdout


def test_failed_clips_are_tab_separated_lines_in_a_file(said: str, root: Path) -> None:
    """A test's output is no terminal."""
    result = data("status", root / "out", "--failed")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(StringIO(result.stdout), delimiter="\t"))
    assert {(row["state"], Path(row["file"]).name, row["listed in"]) for row in rows} == {
        ("duplicate", "a.mp4", "list.csv:4"),
        ("missing", "never.mp4", "list.csv:5"),
        ("decode_error", "bad one.mp4", "list.csv:6"),
        ("decode_error", "bad two.mp4", "list.csv:7"),
        ("too_short", "blink.mp4", "list.csv:8"),
        ("missing", "x.mp4", "list.csv:9"),
    }
    assert all(row["reason"] and row["key"] for row in rows)
    listed = [
        json.loads(line) for line in data("status", root / "out", "--failed", "--json").stdout.splitlines()
    ]
    assert [(one["key"], one["reason"]) for one in listed] == [(row["key"], row["reason"]) for row in rows]
    watched = data("status", root / "out", "--failed", "--watch")
    assert (watched.exit_code, "exclude each other" in output_text(watched)) == (2, True)


def test_names_with_control_characters_stay_in_one_line(root: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "bad\nand\tworse.mp4").write_bytes(bytes(1000))
    shutil.copy(root / "videos" / "a.mp4", videos)
    assert prepare("folder", videos, "--out", tmp_path / "out", *SMALL)[0] == 0
    lines = data("status", tmp_path / "out", "--failed").stdout.splitlines()
    assert [line.count("\t") for line in lines] == [4, 4]
    assert r"bad\nand\tworse.mp4" in lines[1]


def test_a_clip_that_a_retry_prepared_is_no_longer_listed(root: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").write_bytes(bytes(1000))
    (videos / "b.mp4").write_bytes(bytes(1000))
    assert prepare("folder", videos, "--out", tmp_path / "out", *SMALL)[0] == 0
    shutil.copy(root / "videos" / "a.mp4", videos)
    assert prepare("folder", videos, "--out", tmp_path / "out", *SMALL, "--retry-failed")[0] == 0
    lines = data("status", tmp_path / "out", "--failed").stdout.splitlines()
    assert [line.split("\t")[1] for line in lines[1:]] == ["b_00000000"]


def test_a_dataset_without_failures_lists_none(root: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    shutil.copy(root / "videos" / "a.mp4", tmp_path / "videos")
    assert prepare("folder", tmp_path / "videos", "--out", tmp_path / "out", *SMALL)[0] == 0
    assert data("status", tmp_path / "out", "--failed").stdout.splitlines() == [
        "state\tkey\tfile\treason\tlisted in"
    ]
