"""Proves `cavsync study`: runs are paired, resumed and never repeated, what was fixed stays fixed, and the report says what the
runs scored."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from scipy import stats
from support.known_shards import write_known_shards
from support.pages import sound_page
from support.trainings import MICRO
from support.trainings import run as invoke

from cavsync.cli.study import command as study
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.train.data.sampler import Position
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.step import NonFiniteError
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.trainer import open_source, pretrain
from cavsync.train.study.folder import StudyFolder
from cavsync.train.study.runs import CarryOut
from cavsync.train.study.scoring import ScoringCallback
from cavsync.train.study.study_file import shipped_studies

STUDY = """
title = "Toy"
question = "Is it so?"
preset = "tiny"
reference = "plain"
seeds = [3, 4]
num_steps = 4
budgets = ["equal-steps", "equal-compute"]
pairs = [["long", "shuffled"]]
metrics = ["one-moment-r1", "retrieval-r1", "within-clip"]
score_at = [0.5, 1.0]
split = "train"
max_clips = 5

[set]
checkpoint_every_steps = 2
{micro}

[arms.plain]
[arms.shuffled]
about = "control"
set.data.pairing = "shuffled-segments"
[arms.long]
budgets = ["equal-compute"]
set.model.audio_rows = 64
"""
RUNS = [
    *("plain/4-steps/seed-3", "shuffled/4-steps/seed-3", "long/2-steps/seed-3"),
    *("plain/4-steps/seed-4", "shuffled/4-steps/seed-4", "long/2-steps/seed-4"),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"), num_clips=6)


def toml(path: Path, **changes: str) -> Path:
    """The toy study, with lines of it changed."""
    text = STUDY.replace("{micro}", "\n".join(MICRO))
    for before, after in changes.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{before} = ")]
        text = text.replace(line, f"{before} = {after}")
    path.write_text(text)
    return path


def start(file: Path, out: Path, data: Path, *options: str) -> Result:
    return invoke(study.app, "run", file, "--out", out, "--data", data, "--device", "cpu", "--json", *options)


def ended(result: Result) -> list[str]:
    """The runs that the command carried out, without the folder that all lie in."""
    assert result.exit_code == 0, result.output + str(result.exception)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(one["outcome"] == "complete" for one in events if one.get("event") == "run")
    return [one["run"].removeprefix("runs/") for one in events if one.get("event") == "run"]


@pytest.fixture(scope="module")
def done(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was carried out in two parts."""
    folder = tmp_path_factory.mktemp("study")
    file, out = toml(folder / "toy.toml"), folder / "out"
    assert ended(start(file, out, shards, "--seeds", "3", "--arms", "long,plain")) == [RUNS[0], RUNS[2]]
    assert ended(start(file, out, shards)) == [RUNS[1], *RUNS[3:]]
    return out


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text())
    return content


def test_a_second_command_repeats_nothing(done: Path, shards: Path) -> None:
    weights = sorted(done.rglob("model.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert len(weights) == len(RUNS)
    assert ended(start(toml(done.parent / "toy.toml"), done, shards)) == []
    assert [path.stat().st_mtime_ns for path in weights] == before


def test_equal_compute_gives_an_arm_that_computes_more_fewer_steps(done: Path) -> None:
    fixed = json.loads((done / "study.json").read_text())["arms"]
    ratio = fixed["long"]["step_gflop"] / fixed["plain"]["step_gflop"]
    assert 1.3 < ratio < 2  # of a model of which a third is images
    assert fixed["long"]["steps"] == {"equal-compute": 2} == {"equal-compute": round(4 / ratio)}
    assert fixed["plain"]["steps"] == {"equal-steps": 4, "equal-compute": 4}
    assert fixed["shuffled"]["step_gflop"] == fixed["plain"]["step_gflop"]


def test_runs_of_a_seed_see_the_same_frames_and_masks(done: Path) -> None:
    folder = StudyFolder.open(done)
    first = {}
    for run in folder.runs:
        source = open_source(folder.config(run))
        with closing(source.batches(Position(run.seed, 0, 0), Ranks(), torch.device("cpu"))) as batches:
            first[run.arm, run.seed] = next(batches)
    for arm, names in (("shuffled", ("image", "noise_image", "noise_audio")), ("long", ("image",))):
        assert first[arm, 3]["key"] == first["plain", 3]["key"]
        assert first[arm, 3]["frame"].tolist() == first["plain", 3]["frame"].tolist()
        assert all(torch.equal(first[arm, 3][name], first["plain", 3][name]) for name in names)
    assert not torch.equal(first["shuffled", 3]["audio"], first["plain", 3]["audio"])
    assert not torch.equal(first["plain", 4]["noise_image"], first["plain", 3]["noise_image"])


def test_the_table_is_the_arithmetic_of_the_scores(done: Path) -> None:
    def last(name: str, metric: str) -> float:
        lines = (done / "runs" / name / "scores.jsonl").read_text().splitlines()
        assert len(lines) == 2
        return float(json.loads(lines[-1])["scores"][metric]["value"])

    arms = report(done)["results"]["budgets"]["equal-steps"]
    for metric in ("one-moment-r1", "retrieval-r1", "within-clip"):
        plain, shuffled = (
            [last(f"{arm}/4-steps/seed-{seed}", metric) for seed in (3, 4)] for arm in ("plain", "shuffled")
        )
        found = arms["shuffled"]["metrics"][metric]
        differences = [b - a for a, b in zip(plain, shuffled, strict=True)]
        assert found["mean"]["value"] == pytest.approx(sum(shuffled) / 2)
        assert found["difference"]["value"] == pytest.approx(sum(differences) / 2)
        if differences[0] != differences[1]:
            half = stats.t.ppf(0.975, 1) * abs(differences[0] - differences[1]) / 2
            assert found["difference"]["high"] - found["difference"]["value"] == pytest.approx(half)
    assert "long" not in arms
    # The further pair, which has runs under one budget.
    pair = next(one for one in report(done)["results"]["pairs"] if one["budget"] == "equal-compute")
    assert (pair["arm"], pair["other"]) == ("long", "shuffled")
    by_hand = {
        str(seed): last(f"long/2-steps/seed-{seed}", pair["metric"])
        - last(f"shuffled/4-steps/seed-{seed}", pair["metric"])
        for seed in (3, 4)
    }
    assert pair["by_seed"] == pytest.approx(by_hand)
    sound_page(done / "report.html")
    page = (done / "report.html").read_text()
    assert page.count("long less shuffled") == 3
    assert "long, equal-compute: one-moment R@1" in page


def test_the_page_names_every_arm_its_runs_and_what_was_fixed(done: Path) -> None:
    page = (done / "report.html").read_text()
    for text in (
        "Is it so?",
        "shuffled",
        "equal-compute",
        "Learning curves",
        "no difference shown",
        "before the",
    ):
        assert text in page
    assert report(done)["counts"] == {**report(done)["counts"], "listed": 6, "scored": 6}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"metrics": '["within-clip", "one-moment-r1"]'}, "metrics"),
        ({"num_steps": "8"}, "num_steps"),
        ({"score_at": "[1.0]"}, "score_at"),
        ({"about": '"another"'}, "arms.shuffled"),
        ({"seeds": "[4, 3]"}, "seeds"),
    ],
)
def test_what_was_fixed_is_not_changed_afterwards(
    done: Path, shards: Path, tmp_path: Path, changes: dict[str, str], named: str
) -> None:
    refused = start(toml(tmp_path / "other.toml", **changes), done, shards)
    assert refused.exit_code == 1
    assert named in str(refused.exception)
    assert "--out" in str(refused.exception)


def test_a_run_that_was_killed_goes_on_to_the_same_weights(done: Path, shards: Path, tmp_path: Path) -> None:
    file = toml(tmp_path / "toy.toml")

    class KilledError(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        scored = ScoringCallback.on_step_end

        def killed_at_3(self: ScoringCallback, metrics: Any, model: Any, batch: Any) -> None:
            if metrics.step == 3:
                raise KilledError
            scored(self, metrics, model, batch)

        patch.setattr(ScoringCallback, "on_step_end", killed_at_3)
        result = start(file, tmp_path / "out", shards, "--arms", "plain", "--seeds", "3")
        assert isinstance(result.exception, KilledError)
    assert ended(start(file, tmp_path / "out", shards, "--arms", "plain", "--seeds", "3")) == [RUNS[0]]
    path = f"runs/{RUNS[0]}/model.safetensors"
    resumed, whole = (load_model(root / path).state_dict() for root in (tmp_path / "out", done))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    scores = [(root / f"runs/{RUNS[0]}/scores.jsonl").read_text() for root in (tmp_path / "out", done)]
    assert scores[0] == scores[1]


def test_seeds_and_arms_may_be_added_and_the_report_says_when(
    done: Path, shards: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    file = toml(tmp_path / "toy.toml", seeds="[3, 4, 9]")
    file.write_text(file.read_text() + "[arms.late]\nset.model.num_registers = 0\n")
    planned = start(file, out, shards, "--only-plan")
    assert planned.exit_code == 0, planned.output
    fixed, before = (json.loads((root / "study.json").read_text()) for root in (out, done))
    (added,) = fixed["additions"]
    assert (added["arms"], added["seeds"], added["results_before"]) == (["late"], [9], 6)
    assert {name: fixed["arms"][name] for name in before["arms"]} == before["arms"]
    assert "late" in planned.output
    assert "about" in planned.output
    assert invoke(study.app, "report", out).exit_code == 0
    assert "when 6 runs had ended: arm late, seed 9" in (out / "report.html").read_text()
    assert report(out)["counts"]["listed"] == 12
    assert len(report(out)["counts"]["unusable"]) == 6
    # A study without them is another one.
    assert "arms.late, seeds" in str(start(toml(tmp_path / "old.toml"), out, shards).exception)


def test_a_run_of_another_process_is_left_to_it(done: Path, tmp_path: Path) -> None:
    folder = StudyFolder.open(shutil.copytree(done, tmp_path / "out"))
    run = folder.runs[0]
    (folder.path(run) / "result.json").unlink()
    with folder.claimed(run):
        assert CarryOut(folder.root, "cpu")(run) == "elsewhere"


def test_a_run_that_diverges_is_named_and_the_others_go_on(
    done: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    for name in RUNS[:2]:
        shutil.rmtree(out / "runs" / name)
    trained = pretrain

    def diverging(config: PretrainConfig, run_dir: Path, **options: Any) -> Any:
        if config.data.pairing == "shuffled-segments":
            raise NonFiniteError("Step 2 is not finite", [])
        return trained(config, run_dir, **options)

    monkeypatch.setattr("cavsync.train.study.runs.pretrain", diverging)
    result = start(toml(tmp_path / "toy.toml"), out, shards)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["outcome"] for line in result.stdout.splitlines()[:2]] == ["complete", "failed"]
    assert report(out)["counts"]["unusable"] == [
        {"item": "runs/shuffled/4-steps/seed-3", "state": "failed", "reason": "Step 2 is not finite"}
    ]
    # One seed is left of that arm.
    found = report(out)["results"]["budgets"]["equal-steps"]["shuffled"]["metrics"]["retrieval-r1"]
    assert found["verdict"] == "one seed: no interval"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--arms", "plane"), "no 'plane'; it has: plain, shuffled, long"),
        (("--seeds", "7"), "no '7'; it has: 3, 4"),
    ],
)
def test_an_arm_or_seed_that_the_study_lacks_is_wrong_usage(
    done: Path, shards: Path, options: tuple[str, str], named: str
) -> None:
    result = start(toml(done.parent / "toy.toml"), done, shards, *options)
    assert result.exit_code == 2
    assert named in result.output


def test_a_study_without_a_world_needs_a_dataset(tmp_path: Path) -> None:
    result = invoke(study.app, "run", toml(tmp_path / "toy.toml"), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "--data DIR" in str(result.exception)


def test_shipped_studies_are_listed_and_printed_as_they_are() -> None:
    listed = invoke(study.app, "list").output
    assert all(name in listed for name in shipped_studies())
    assert invoke(study.app, "show", "alignment").output == shipped_studies()["alignment"]
