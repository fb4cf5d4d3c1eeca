"""Proves `cavsync prepare --keep`: which clips are stored, what becomes of the others, and how a run goes on."""

from pathlib import Path

import pandas as pd
import pytest
from support.command_line import output_text, run
from support.prepared import OPTIONS, prepare_vggsound, write_videos

from cavsync.pipeline.dataset.reader import Dataset

KEEP = ("--keep", "not silent and not still and list_contains(labels, 'dog')")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos a, b, g with sound, c silent, d still, e broken, f missing; b is a cat."""
    root = tmp_path_factory.mktemp("keep")
    write_videos(root)
    prepare_vggsound(root, *KEEP)
    return root


def test_clips_for_which_the_condition_is_false_end_as_filtered_with_it_as_the_reason(root: Path) -> None:
    rows = pd.concat(map(pd.read_parquet, sorted((root / "out" / "index").iterdir())))
    filtered = rows[rows["state"] == "filtered"]
    assert sorted(filtered["clip_id"]) == ["b", "b", "c", "d"]
    assert set(filtered["reason"]) == {f"not {KEEP[1]}"}
    assert filtered["video_codec"].eq("h264").all()
    assert filtered["mel_size"].isna().all()
    assert sorted(rows.loc[rows["state"] == "ok", "clip_id"]) == ["a", "g"]


def test_filtered_clips_add_up_and_are_not_counted_as_failed(root: Path) -> None:
    states = {"decode_error": 1, "duplicate": 1, "filtered": 4, "missing": 1, "ok": 2}
    assert Dataset.open(root / "out").summary["states"] == states
    result = run("prepare", "vggsound", *_paths(root), *OPTIONS[:-2], *KEEP, "--max-failure-rate", "0.15")
    assert result.exit_code == 0, result.output  # 1 of 7 is broken
    assert "prepared, and not kept by --keep" in output_text(result)
    assert run("data", "validate", root / "out").exit_code == 0


def test_a_retry_leaves_filtered_clips_alone(root: Path) -> None:
    result = run("prepare", "vggsound", *_paths(root), *OPTIONS, *KEEP, "--retry-failed")
    assert "Trying 1 of 2 failed clips again: 1 decode_error." in output_text(result)


def test_another_condition_is_refused_in_a_folder_that_has_one(root: Path) -> None:
    result = run("prepare", "vggsound", *_paths(root), *OPTIONS, "--keep", "not silent")
    assert result.exit_code == 1
    assert 'keep was "not silent and not still' in output_text(result)


def test_what_is_no_condition_is_found_before_anything_is_written(root: Path) -> None:
    paths = (*_paths(root)[:-1], root / "none")
    result = run("prepare", "vggsound", *paths, *OPTIONS, "--keep", "duration > 5")
    assert result.exit_code == 1
    assert '"duration_s"' in output_text(result)
    assert not (root / "none").exists()


def test_a_condition_that_fails_for_one_clip_filters_that_clip(root: Path) -> None:
    out = root / "numbers"
    paths = (*_paths(root)[:-1], out)
    result = run(
        "prepare",
        "vggsound",
        *paths,
        *OPTIONS,
        "--keep",
        "case when clip_id = 'a' then true else clip_id::int > 5 end",
    )
    assert result.exit_code == 0, result.output
    rows = pd.concat(map(pd.read_parquet, sorted((out / "index").iterdir()))).set_index("clip_id")
    assert rows.loc["g", "state"] == "filtered"
    assert "ok" in set(rows.loc["a", "state"])
    assert "Could not convert string" in rows.loc["g", "reason"]


def test_a_condition_that_leaves_no_clip_ends_with_an_error(root: Path) -> None:
    paths = (*_paths(root)[:-1], root / "nothing")
    result = run("prepare", "vggsound", *paths, *OPTIONS, "--keep", "duration_s > 100")
    assert result.exit_code == 1
    assert "--keep 'duration_s > 100' leaves none of the 6 clips that were prepared" in output_text(result)
    assert Dataset.open(root / "nothing").summary["states"]["filtered"] == 6


def _paths(root: Path) -> tuple[str | Path, ...]:
    return "--list", root / "list.csv", "--videos", root / "videos", "--out", root / "out"
