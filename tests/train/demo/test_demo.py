"""Proves that the demo runs its stages on real files and reuses them; its figures take minutes and stand in the README."""

import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.command_line import output_text, run
from support.documents.pages import ROOT
from support.pages import sound_page

from cavsync.cli import demo as command
from cavsync.pipeline.dataset.reader import Dataset
from cavsync.train.demo.alignment import CHANCE, MEASURED
from cavsync.train.demo.control import with_p_values
from cavsync.train.demo.demo import DemoConfig, sounding_at
from cavsync.train.demo.evaluation import DemoResult
from cavsync.train.demo.videos import is_there
from cavsync.train.pretrain.presets import tiny
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.page import Score


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, quick_reports: None) -> Path:
    """The folder of a demo of 8 + 4 clips: fewer than the option takes, because a batch has 8 clips here and not 64."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as output:
        patch.setattr("cavsync.train.demo.demo.tiny", lambda: replace(tiny(), batch_size=8))
        command.demo(folder, steps=2, train_clips=8, test_clips=4, workers=1)
    assert "same class" in output.getvalue()
    return folder


@pytest.mark.slow
def test_every_clip_of_the_world_is_prepared_in_its_split(demo: Path) -> None:
    dataset = Dataset.open(demo / "data" / "vggsound")
    assert dataset.summary["states"] == {"ok": 12}
    assert len(dataset.index("train")) == 8
    assert len(dataset.index("test")) == 4


@pytest.mark.slow
def test_the_run_ends_with_scores_and_a_page_of_images(demo: Path) -> None:
    (run,) = (demo / "runs").iterdir()
    report = json.loads((run / "retrieval-test" / "report.json").read_text())
    assert report["counts"]["scored"] == report["counts"]["listed"] == 4
    maps = json.loads((run / "segmentation-ade20k_sound" / "report.json").read_text())
    assert maps["counts"]["scored"] == maps["counts"]["listed"] > 0
    assert {"denseav", "masked-view", "constant map", "centred disc", "colour saliency"} == set(
        maps["results"]["methods"]
    )
    synchrony = json.loads((run / "synchrony-test" / "report.json").read_text())
    assert synchrony["counts"]["scored"] == 4
    classes = pd.read_csv(demo / "raw" / "ade20k_sound" / "prompted_segmentation.csv")["ade_class"]
    assert {path.stem for path in (run / "search").iterdir()} == set(classes)
    localized = json.loads((run / "localized" / "report.json").read_text())
    assert localized["results"]["num_scored"] == 20
    sound_page(run / "report.html")
    page = (run / "report.html").read_text()
    for part in (
        "masked-view: prompted object first",
        "Example maps",
        "Training",
        "Frames and their audio segments",
        "What alignment teaches: measured once",
        "within a clip: same class",
        "delay found within 0.25 s",
        "Similarity by offset",
        "found in frames by audio",
        "Search: frames by audio",
        "with its own audio",
        "data:video/mp4;base64",
        "data:image/jpeg",
    ):
        assert part in page


@pytest.mark.slow
def test_a_second_demo_reuses_world_shards_and_run(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the evaluation is done again; here it is left out."""
    evaluated: list[Path] = []

    def evaluate(config: DemoConfig, stage: object) -> DemoResult:
        evaluated.append(config.run)
        return DemoResult([], 4, config.report)

    monkeypatch.setattr("cavsync.train.demo.evaluation.evaluate_demo", evaluate)
    kept = [demo / "world.json", demo / "data/vggsound/plan.parquet", *demo.glob("runs/*/model.safetensors")]
    before = [path.stat().st_mtime_ns for path in kept]
    command.demo(demo, steps=2, train_clips=8, test_clips=4, workers=1)
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert evaluated == [kept[-1].parent]


@pytest.mark.slow
def test_another_world_in_the_same_folder_is_refused(demo: Path) -> None:
    result = run("demo", "--out", demo, "--train-clips", "65")
    assert result.exit_code == 1
    assert "num_train is 8 there, 65 was requested" in output_text(result)


def test_the_figure_of_the_alignment_study_is_the_table_of_the_documentation() -> None:
    page = (ROOT / "docs" / "studies.md").read_text()
    _, measured = page.split("\n## Measured", 1)
    table = dict(re.findall(r"^\| ([^|]+) \| \d+ \| [\d.]+ % \(([\d., ]+)\)", measured, re.MULTILINE))
    expected = {name: tuple(map(float, values.split(", "))) for name, values in table.items()}
    assert {name: expected[name] for name in MEASURED} == MEASURED
    assert f"chance {CHANCE:.1f}".replace("0.", ".") in measured


def test_a_control_has_the_exact_probability_of_its_recalls() -> None:
    rows = [Score("a R@1", Estimate(100 * 5 / 128, chance=100 / 128)), Score("a median rank", Estimate(60.0))]
    first, other = with_p_values(rows, 128)
    # Of 128 queries with one right answer in 128, five or more: 1 less the sum of the five smaller counts.
    exact = 1 - sum(comb(128, hits) * (1 / 128) ** hits * (127 / 128) ** (128 - hits) for hits in range(5))
    assert first.note == f"p = {exact:.2g} of independent queries"
    assert other == rows[1]


def test_a_class_counts_as_present_from_its_turns_start_to_its_end() -> None:
    turns = [
        {"class": "bell", "start_s": 0.0, "end_s": 2.0},
        {"class": "drum", "start_s": 1.5, "end_s": 4.0},
    ]
    present = sounding_at(turns, np.array([0.0, 1.5, 2.0, 4.0]), ["drum", "bell"])
    assert present.tolist() == [[False, True], [True, True], [True, False], [False, False]]


def test_a_hit_is_right_while_its_thing_is_there() -> None:
    turns = [{"class": "bell", "start_s": 0.0, "end_s": 2.0}, {"class": "drum", "start_s": 1.5, "end_s": 4.0}]
    assert [is_there("bell", turns, time_s) for time_s in (0.0, 1.99, 2.0)] == [True, True, False]
    assert not is_there("bee", turns, 1.0)
