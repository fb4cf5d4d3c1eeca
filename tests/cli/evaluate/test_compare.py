"""Proves `cavsync eval compare`: the columns, the interval of a difference, and what makes figures incomparable."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from support import command_line
from support.command_line import output_text
from support.pages import sound_page

from cavsync.train.evaluation.statistics import paired_difference

NUM_CLIPS = 40


def run(*arguments: object) -> Result:
    return command_line.run("eval", *arguments, env={"COLUMNS": "200"})


def scored(folder: Path, num_wrong: int, clips: list[str] | None = None) -> Path:
    """A report on clips of which each audio equals its image, except that the first of them are rotated."""
    vectors = np.eye(NUM_CLIPS)
    order = [*range(1, num_wrong), 0, *range(num_wrong, NUM_CLIPS)] if num_wrong else [*range(NUM_CLIPS)]
    table = {"clip": clips or [f"clip{number:02d}" for number in range(NUM_CLIPS)], "pair": 0}
    folder.mkdir(parents=True)
    file = folder / "embeddings.parquet"
    pd.DataFrame(table | {"audio": list(vectors), "image": list(vectors[order])}).to_parquet(file)
    result = run("retrieval", "--embeddings", file, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`better` errs on 10 of 40 clips, `worse` on these and 10 more."""
    folder = tmp_path_factory.mktemp("reports")
    scored(folder / "better", 10)
    scored(folder / "worse", 20)
    return folder


def compared(*arguments: object) -> dict[str, Any]:
    result = run("compare", *arguments, "--json")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def test_figures_stand_side_by_side_with_their_difference(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "two.html"
    result = run("compare", folder / "better", folder / "worse" / "report.json", "--out", page)
    assert result.exit_code == 0, result.output
    output = output_text(result)
    assert "worse - better" in output
    assert "audio → video R@1 75.0 % 50.0 % -25.0 (" in output
    assert "data.path" in output  # what was not the same
    path = str(folder / "worse" / "embeddings.parquet")
    assert (path if len(path) <= 64 else f"{path[:32]}...{path[-32:]}") in output
    text = page.read_text()
    assert "Retrieval, side by side" in text
    assert re.search(r"<th [^>]*>audio → video R@1</th>\s*<td[^>]*>75\.0 %</td>", text)
    assert "<svg" in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)  # self-contained


def test_the_same_queries_are_compared_one_by_one(folder: Path, tmp_path: Path) -> None:
    found = compared(folder / "better", folder / "worse", "--out", tmp_path / "x.html")
    figure = found["figures"]["video → audio R@1"]
    (difference,) = figure["differences"]
    assert [cell["value"] for cell in figure["reports"]] == [75, 50]
    assert difference["value"] == -25
    # 10 of 40 queries were lost and none won: 1.96 deviations of such a fraction are 13.4 points.
    assert (difference["low"], difference["high"]) == pytest.approx((-25 - 13.4, -25 + 13.4), abs=2.6)
    assert difference["intervals_overlap"]  # of the scores, which alone would leave it open
    assert difference["verdict"] == "differs"
    assert found["warnings"] == []
    assert set(found["settings"]) >= {"data.path", "data.sha256"}
    assert "config.aggregation" not in found["settings"]


def test_a_report_does_not_differ_from_itself(folder: Path, tmp_path: Path) -> None:
    found = compared(folder / "better", folder / "better", "--out", tmp_path / "x.html")
    assert {one["verdict"] for row in found["figures"].values() for one in row["differences"]} == {
        "no clear difference",
        "intervals overlap",  # of the median rank, which is not compared by query
    }
    assert found["settings"] == {}
    assert (
        "None: checkpoint, training, data, choices and versions are equal."
        in (tmp_path / "x.html").read_text()
    )


def test_other_clips_are_not_compared_one_by_one_and_that_is_said(folder: Path, tmp_path: Path) -> None:
    others = [f"other{number:02d}" for number in range(NUM_CLIPS)]
    scored(tmp_path / "else", 20, others)
    found = compared(folder / "better", tmp_path / "else", "--out", tmp_path / "x.html")
    (difference,) = found["figures"]["audio → video R@1"]["differences"]
    assert (difference["low"], difference["verdict"]) == (None, "intervals overlap")
    (warning,) = found["warnings"]
    assert re.fullmatch(
        r"Not the same items were scored \(40 in .*better and 40 in .*else\), so a .*", warning
    )
    assert "items_sha256" in found["settings"]


def test_ranks_that_belong_to_another_report_are_not_used(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "worse", tmp_path / "mixed")
    scored(tmp_path / "else", 0, [f"other{number:02d}" for number in range(NUM_CLIPS)])
    shutil.copy(tmp_path / "else" / "ranks.parquet", tmp_path / "mixed")
    found = compared(folder / "better", tmp_path / "mixed", "--out", tmp_path / "x.html")
    (difference,) = found["figures"]["audio → video R@1"]["differences"]
    assert (difference["value"], difference["low"]) == (-25, None)


def test_three_reports_are_compared_with_the_first(folder: Path, tmp_path: Path) -> None:
    scored(tmp_path / "perfect", 0)
    found = compared(folder / "better", folder / "worse", tmp_path / "perfect", "--out", tmp_path / "x.html")
    differences = found["figures"]["audio → video R@1"]["differences"]
    assert [one["value"] for one in differences] == [-25, 25]


def test_reports_of_other_evaluations_and_undefined_figures_are_shown(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "better" / "report.json").read_text())
    figure = record["figures"]["audio → video R@1"]
    for name, value in (("a", 0.73), ("b", 0.71)):
        error = figure | {"value": value, "low": None, "high": None, "unit": "s"}
        figures = {"error": error, "agreement": figure | {"value": None, "low": None, "high": None}}
        if name == "b":
            figures["delay"] = error
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(
            json.dumps(record | {"evaluation": "synchrony", "figures": figures})
        )
    options = ("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "x.html")
    output = output_text(run(*options))
    assert "error 0.73 s 0.71 s -0.02" in output
    assert "Figures that only some reports have are left empty in the others (a against b)" in output
    found = compared(*options[1:])
    assert found["figures"]["agreement"]["differences"] == [None]
    assert found["figures"]["error"]["differences"][0]["verdict"] == ""
    assert found["figures"]["delay"]["reports"][0]["value"] is None


def with_training(report: Path, copy: Path, training: dict[str, Any] | None) -> Path:
    """A copy of a report as if a checkpoint had been scored whose run had this configuration."""
    record = json.loads((report / "report.json").read_text())
    record["checkpoint"] = {"path": "model.safetensors", "sha256": "0", "training": training}
    copy.mkdir()
    (copy / "report.json").write_text(json.dumps(record))
    return copy


def test_training_settings_that_differ_are_listed(folder: Path, tmp_path: Path) -> None:
    config = {"preset": "tiny", "optimizer": {"lr": 0.002, "decay": "all"}, "num_steps": 1000}
    changed = config | {"optimizer": {"lr": 0.001, "decay": "all"}}
    one = with_training(folder / "better", tmp_path / "one", config)
    two = with_training(folder / "better", tmp_path / "two", changed)
    page = tmp_path / "x.html"
    assert compared(one, two, "--out", page)["settings"] == {"training.optimizer.lr": [0.002, 0.001]}
    assert "training.optimizer.lr" in page.read_text()
    sound_page(page)


def test_a_checkpoint_of_unknown_training_differs_by_its_preset_alone(folder: Path, tmp_path: Path) -> None:
    known = with_training(folder / "better", tmp_path / "known", {"preset": "tiny", "num_steps": 1000})
    published = with_training(folder / "better", tmp_path / "published", None)
    found = compared(known, published, "--out", tmp_path / "x.html")
    assert found["settings"] == {"training": ["tiny", None]}


def test_reports_are_named_by_what_differs_between_them(tmp_path: Path) -> None:
    for name in ("one/retrieval-test", "two/retrieval-test"):
        scored(tmp_path / name, 0)
    paths = [tmp_path / name for name in ("one/retrieval-test", "two/retrieval-test")]
    found = compared(*paths, "--out", tmp_path / "x.html")
    assert [one["name"] for one in found["reports"]] == ["one", "two"]
    found = compared(paths[0], paths[0], "--out", tmp_path / "same.html")
    assert [one["name"] for one in found["reports"]] == ["1: retrieval-test", "2: retrieval-test"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there: name the folder that `cavsync eval` wrote, or its report.json. There is"),
        ("{", "is no JSON"),
        ("[1]", "is no report of `cavsync eval`"),
        ({"schema_version": 1}, "has schema version 1, this cavsync reads 4; run that evaluation again"),
        ({"schema_version": 99}, "has schema version 99, this cavsync reads 4; update cavsync"),
        ('{"schema_version": 4, "evaluation": "retrieval"}', "is damaged: it has no figures, counts"),
        ({"evaluation": "segmentation"}, "Only reports of one evaluation compare: "),
    ],
)
def test_incomparable_reports_are_refused(
    content: str | dict[str, Any] | None, message: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "report.json").write_text("{}")
    if isinstance(content, dict):
        content = json.dumps(json.loads((folder / "worse" / "report.json").read_text()) | content)
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    result = run("compare", folder / "better", tmp_path, "--out", tmp_path / "x.html")
    assert result.exit_code == 1
    assert message in output_text(result)
    assert not (tmp_path / "x.html").exists()


def test_one_report_is_wrong_usage(folder: Path) -> None:
    result = run("compare", folder / "better")
    assert result.exit_code == 2
    assert "Name two reports or more" in output_text(result)


def test_the_paired_interval_is_near_that_of_resampling_and_never_empty() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(200) < 0.5
    after = np.where(rng.random(200) < 0.2, rng.random(200) < 0.8, before)
    picks = rng.integers(0, 200, (4000, 200))
    drawn = 100 * (after[picks].mean(1) - before[picks].mean(1))
    found = paired_difference(before, after)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.8)
    same = paired_difference(before, before)
    # No query of 200 changed: where 1 in 100 changes, that happens in one of seven such sets.
    assert (same.value, same.low, same.high) == (
        0,
        pytest.approx(-1.37, abs=0.01),
        pytest.approx(1.37, abs=0.01),
    )
