"""Proves the record that every evaluation writes: valid JSON whatever was measured, counts that add up, stable hashes."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cavsync.train.reporting.coverage import Coverage, Unusable
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import Score
from cavsync.train.reporting.record import (
    EvaluationResult,
    as_record,
    content_sha256,
    plain,
    write_evaluation,
)


@dataclass(frozen=True)
class Detail:
    values: tuple[float, ...]
    path: Path


def result(data: Path, items: list[str], scores: list[Score]) -> EvaluationResult:
    unusable = (Unusable("c", "missing", "c.mp4 not there"), Unusable("d", "no_audio", "no audio stream"))
    return EvaluationResult(
        evaluation="retrieval",
        title="Retrieval",
        lead="2 of 4 clips",
        scores=scores,
        sections=[],
        facts=[],
        coverage=Coverage(4, unusable, kind="clips"),
        items=items,
        weights=None,
        data=data,
        defined_by=data,
        config={"aggregation": "mean"},
        results={"detail": Detail((1.0, math.inf), data)},
    )


def test_undefined_values_are_null_and_the_file_is_json(tmp_path: Path) -> None:
    data = tmp_path / "list.csv"
    data.write_text("a\nb\n")
    scores = [Score("mAP", Estimate(40.0, 35.0, 45.0, 0.5)), Score("d'", Estimate(math.nan, unit=""))]
    written = write_evaluation(result(data, ["a", "b"], scores), tmp_path / "new" / "folder")
    read = json.loads((tmp_path / "new/folder/report.json").read_text(), parse_constant=pytest.fail)
    assert read == written
    assert read["figures"]["d'"] == {
        **dict.fromkeys(("value", "chance", "low", "high")),
        "note": "",
        "unit": "",
    }
    assert read["figures"]["mAP"]["value"] == 40
    assert read["results"]["detail"] == {"values": [1.0, None], "path": str(data)}
    assert read["data"] == {"path": str(data), "sha256": hashlib.sha256(b"a\nb\n").hexdigest()}
    assert read["versions"]["cavsync"]
    page = (tmp_path / "new/folder/report.html").read_text()
    for part in ("40.0 %", "35.0 - 45.0", "0.50 %", "undefined", "c.mp4 not there"):
        assert part in page


def test_counts_are_of_listed_found_and_scored_clips(tmp_path: Path) -> None:
    counts = as_record(result(tmp_path, ["a", "b"], []))["counts"]
    # c is missing; d is there, but has no audio.
    assert (counts["listed"], counts["found"], counts["scored"]) == (4, 3, 2)
    assert [one["item"] for one in counts["unusable"]] == ["c", "d"]


def test_a_score_over_other_items_than_were_counted_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="1 items were scored, 2 counted"):
        as_record(result(tmp_path, ["a"], []))


def test_the_hash_of_items_knows_the_items_and_not_their_order(tmp_path: Path) -> None:
    one, same, other = (
        as_record(result(tmp_path, items, []))["items_sha256"]
        for items in (["a", "b"], ["b", "a"], ["a", "d"])
    )
    assert one == same != other


def test_the_hash_of_a_folder_sees_names_and_content(tmp_path: Path) -> None:
    hashes = set()
    for name, text in (("a.xml", "1"), ("a.xml", "2"), ("b.xml", "2")):
        (tmp_path / "folder").mkdir(exist_ok=True)
        for old in (tmp_path / "folder").iterdir():
            old.unlink()
        (tmp_path / "folder" / name).write_text(text)
        hashes.add(content_sha256(tmp_path / "folder"))
    assert len(hashes) == 3


def test_numbers_of_numpy_become_plain_ones() -> None:
    assert plain({"a": np.float32(0.5), "b": np.array([[1, 2]]), "c": np.float64("nan")}) == {
        "a": 0.5,
        "b": [[1, 2]],
        "c": None,
    }
    assert type(plain(np.int64(3))) is int
