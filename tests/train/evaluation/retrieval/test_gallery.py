"""Proves which clips a list selects, in every form in which lists circulate, and that missing clips are named."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.retrieval.gallery import Gallery
from cavsync.train.evaluation.retrieval.published_recalls import PROTOCOL, VGGSOUND, why_not_comparable

IDS = ["--4gqARaEJE", "ab_cd-EFghi"]
OUTCOMES = pd.DataFrame(
    [
        ("--4gqARaEJE_00000000", "ok", ""),
        ("ab_cd-EFghi_00030000", "ok", ""),
        ("twice_00000000", "ok", ""),
        ("twice_00010000", "ok", ""),
        ("half_00001500", "ok", ""),
        ("mute_00000000", "no_audio", "the file has no audio stream"),
        ("file_000030_00000000", "ok", ""),  # a file file_000030.mp4 that was prepared as it is
    ],
    columns=["key", "state", "reason"],
)


def found(tmp_path: Path, name: str, text: str) -> tuple[list[str], dict[str, str]]:
    """Keys, and states of what has none."""
    (tmp_path / name).write_text(text)
    result = Gallery.read(tmp_path / name).find(OUTCOMES, "data/mine")
    return list(result.keys.values()), {one.item: one.state for one in result.coverage.unusable}


AUDIOSET_ROWS = (
    "# Segments\n# num_ytids=2\n# YTID, start_seconds, end_seconds, positive_labels\n"
    '--4gqARaEJE, 0.000, 10.000, "/m/1,/m/2"\nab_cd-EFghi, 30.000, 40.000, "/m/1"\n'
)
BOTH = ["--4gqARaEJE_00000000", "ab_cd-EFghi_00030000"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "cavmae.json",
            '{"data": [{"video_id": "--4gqARaEJE", "wav": "x", "labels": "/m/1"}, {"video_id": "ab_cd-EFghi_000030"}]}',
        ),
        ("ids.json", '["--4gqARaEJE_000000", "ab_cd-EFghi_000030.mp4"]'),
        ("ids.txt", "--4gqARaEJE\n\nab_cd-EFghi_00030000\n"),
        ("test.csv", '--4gqARaEJE_000000.mp4,playing\nab_cd-EFghi_000030.mp4,"a, b"\n'),
        ("vggsound.csv", "--4gqARaEJE,0,dog,test\nab_cd-EFghi,30,cat,test\n"),
        ("eval_segments.csv", AUDIOSET_ROWS),
        ("titled.csv", "label;start_s;id\ndog;0;--4gqARaEJE\ncat;30;ab_cd-EFghi\n"),
        ("keys.csv", "key\n--4gqARaEJE_00000000\nab_cd-EFghi_00030000\n"),
        ("rows.jsonl", '{"clip": "--4gqARaEJE"}\n{"id": "ab_cd-EFghi", "start_seconds": 30}\n'),
    ],
)
def test_every_form_of_a_list_selects_the_same_clips(tmp_path: Path, name: str, text: str) -> None:
    assert found(tmp_path, name, text) == (BOTH, {})


def test_a_parquet_list_is_read_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"video_id": IDS}), tmp_path / "list.parquet")
    result = Gallery.read(tmp_path / "list.parquet").find(OUTCOMES, "data")
    assert list(result.keys.values()) == BOTH


def test_starts_that_are_no_whole_seconds_and_files_that_are_clips_are_found(tmp_path: Path) -> None:
    keys, missing = found(tmp_path, "a.csv", "id,start_s\nhalf,1.5\n")
    assert (keys, missing) == (["half_00001500"], {})
    assert found(tmp_path, "b.txt", "file_000030.mp4\n")[0] == ["file_000030_00000000"]


def test_missing_clips_are_named_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("mute\nabsent\ntwice\nab_cd-EFghi\n")
    result = Gallery.read(tmp_path / "list.txt").find(OUTCOMES, "data/mine, split test")
    reasons = {one.item: (one.state, one.reason) for one in result.coverage.unusable}
    assert reasons == {
        "mute": ("no_audio", "the file has no audio stream"),
        "absent": ("not_in_dataset", "no clip of data/mine, split test is named absent"),
        "twice": (
            "ambiguous",
            "2 clips of data/mine, split test have the id twice; name one, such as twice_00000000",
        ),
    }
    coverage = result.coverage
    assert (coverage.num_listed, coverage.num_found, coverage.num_scored) == (4, 3, 1)


def test_a_clip_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("ab_cd-EFghi\nab_cd-EFghi\nab_cd-EFghi_000030\n")
    result = Gallery.read(tmp_path / "list.txt").find(OUTCOMES, "data")
    assert list(result.keys.values()) == [BOTH[1]]
    assert result.coverage.num_listed == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{}", 'is no gallery: it should read {"data": [{"video_id": ...}, ...]}'),
        ("a.json", '{"data": [{"wav": "x"}]}', "row 1: None names no clip"),
        ("a.json", '{"data": [', "is no JSON: .* Is the download complete?"),
        ("a.json", "[]", "lists no clip"),
        ("a.txt", "", "lists no clip"),
        ("a.csv", "id,start_s\nx,soon\n", "'x' from 'soon' s names no clip"),
        ("a.jsonl", "{", "this is no JSON in UTF-8. --gallery names it"),
        ("a.parquet", "PAR0", "is no Parquet file"),
    ],
)
def test_a_file_that_lists_nothing_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    pattern = message if ".*" in message else None
    with pytest.raises(EvaluationError, match=pattern) as raised:
        Gallery.read(tmp_path / name)
    assert pattern or message in str(raised.value)
    with pytest.raises(EvaluationError, match="is no file; --gallery names a list of clips"):
        Gallery.read(tmp_path / "nowhere.json")


def test_only_the_published_list_compares_with_published_figures() -> None:
    ours = VGGSOUND.ids_sha256
    for num_scored in (1545, 1500):
        assert why_not_comparable(VGGSOUND, ours, num_scored, PROTOCOL) == ""
    assert why_not_comparable(VGGSOUND, ours, 1400, PROTOCOL) == "only 1,400 of its 1,545 clips here"
    for other in ("0" * 64, None):
        assert why_not_comparable(VGGSOUND, other, 1545, PROTOCOL) == "another gallery"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"aggregation": "max"}, "aggregation max, published diagonal-mean"),
        ({"num_pairs": 10}, "frames a clip 10, published 16"),
        ({"frame_times": "centred"}, "frame times centred, published upstream"),
        ({"alignment": "time"}, "alignment time, published upstream"),
        # Embeddings of a file, which does not say how they were made.
        (
            {"frame_times": None, "alignment": None},
            "frame times unknown, published upstream; alignment unknown, published upstream",
        ),
    ],
)
def test_published_recalls_compare_only_under_the_published_protocol(
    other: dict[str, Any], reason: str
) -> None:
    ours = VGGSOUND.ids_sha256
    assert why_not_comparable(VGGSOUND, ours, 1545, replace(PROTOCOL, **other)) == reason


@pytest.mark.real
@pytest.mark.skipif(not os.environ.get("CAVSYNC_REAL_DATA"), reason="CAVSYNC_REAL_DATA names no real lists")
def test_the_official_list_is_known_by_its_ids(tmp_path: Path) -> None:
    path = Path(os.environ["CAVSYNC_REAL_DATA"]) / "lists/vgg_test_5_per_class_for_retrieval_template.json"
    gallery = Gallery.read(path)
    assert len(gallery.entries) == VGGSOUND.num_clips
    assert gallery.ids_sha256 == VGGSOUND.ids_sha256
    # The same clips as plain ids, in another order.
    names = sorted((entry.name for entry in gallery.entries), reverse=True)
    (tmp_path / "ids.json").write_text(json.dumps(names))
    assert Gallery.read(tmp_path / "ids.json").ids_sha256 == VGGSOUND.ids_sha256
    # All of them are in the official test list.
    listed = Gallery.read(path.with_name("test.csv"))
    assert {entry.name for entry in gallery.entries} <= {entry.name for entry in listed.entries}
