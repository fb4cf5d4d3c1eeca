"""Proves `cavsync train ... --resume`: a run knows its configuration, may be lengthened, and says what that does."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.command_line import output_text
from support.known_shards import micro_run, write_known_shards
from support.labelled_shards import pretrained, write_labelled_shards
from support.trainings import MICRO, NO_CURVES, Calls, events, micro, sets, train

from cavsync.train.pretrain.trainer import pretrain

LR, FLOOR = 2e-3, 0.02  # of the preset `tiny`


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, so that three batches of two make an epoch."""
    root = tmp_path_factory.mktemp("root")
    write_known_shards(root / "data" / "demo", num_clips=6)
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    """A complete run of two steps, of a model that no preset has."""
    events(*micro("--root", root, "--run", root / "run", "--no-estimate"))
    return root / "run"


@pytest.fixture
def two_steps(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))


def config_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "config.json").read_text())
    return content


def assert_same_weights(one: Path, two: Path) -> None:
    before, after = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


def cosine_lr(step: int, num_steps: int) -> float:
    """Of the step that follows `step`, with the warm-up of a twentieth of so few steps, which is none."""
    return LR * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * step / num_steps)))


# What a run knows


def test_an_interrupted_run_goes_on_from_its_folder_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither preset nor data nor fields are given again, and the weights are those of a run that was never stopped."""
    config = micro_run(root / "data" / "demo")
    pretrain(config, tmp_path / "whole", device="cpu")

    class StopError(Exception):
        pass

    def stop(metrics: Any) -> None:
        if metrics.step == 3:
            raise StopError

    every_step = micro_run(root / "data" / "demo", checkpoint_every_steps=1)
    with pytest.raises(StopError):
        pretrain(every_step, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop)])
    monkeypatch.chdir(tmp_path)
    start, *rest = events("pretrain", "--resume", "--run", "run")
    assert (start["preset"], start["steps_done"], start["num_steps"], start["changes"]) == ("micro", 2, 4, [])
    assert [event["step"] for event in rest] == [3, 4, 4]
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


def test_a_run_started_with_relative_paths_is_resumed_and_named_from_another_folder(
    root: Path, two_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset and the initial weights were named relative to a folder that is not the current one any more."""
    monkeypatch.chdir(root)
    (root / "weights").symlink_to(two_steps)
    arguments = ["--data", "data/demo", "--run", tmp_path / "relative"]
    events(*micro(*arguments), *sets("initial_weights=weights"))
    monkeypatch.chdir(tmp_path)
    start = events("pretrain", "--resume", "--run", "relative", "--steps", "3")[0]
    assert start["changes"][0] == "num_steps was 2, now 3"
    config = config_of(tmp_path / "relative")
    assert (config["data"]["path"], config["initial_weights"]) == (
        str(root / "data/demo"),
        str(root / "weights"),
    )
    monkeypatch.chdir(root)  # naming the same dataset by another path is no change
    assert (
        events("pretrain", "--resume", "--run", tmp_path / "relative", "--data", "data/demo")[0]["changes"]
        == []
    )


def test_options_that_a_run_may_change_are_applied_and_kept(root: Path, two_steps: Path) -> None:
    start = events("pretrain", "--resume", "--run", two_steps, "--num-workers", "1", *sets("micro_batch=1"))[
        0
    ]
    assert start["changes"] == ["data.num_workers was 0, now 1", "micro_batch was None, now 1"]
    assert events("pretrain", "--resume", "--run", two_steps)[0]["changes"] == []
    assert (config_of(two_steps)["micro_batch"], config_of(two_steps)["data"]["num_workers"]) == (1, 1)
    assert json.loads((two_steps / "resumes.jsonl").read_text()) == {
        "step": 2,
        "changed": {"data.num_workers": [0, 1], "micro_batch": [None, 1]},
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "3"], "batch_size was 2, now 3"),
        (["--preset", "sync-base"], "preset was 'tiny', now 'sync-base'"),
        (
            sets("model.embed_dim=32", "optimizer.lr=1"),
            "model.embed_dim was 16, now 32; optimizer.lr was 0.002, now 1.0",
        ),
    ],
)
def test_options_that_change_what_is_computed_are_refused_by_name(
    two_steps: Path, options: list[str], message: str
) -> None:
    before = config_of(two_steps)
    error = str(train("pretrain", "--resume", "--run", two_steps, "--steps", "9", *options).exception)
    assert f"{two_steps} was started with another configuration: {message}. Resume it without that" in error
    assert "start another folder with --run" in error
    assert config_of(two_steps) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "optimizer.lrr=1"], "no field 'lrr'"),
        (["--steps", "3", "--epochs", "1"], "--steps and --epochs exclude each other"),
    ],
)
def test_wrong_usage_beside_resume_ends_in_2(two_steps: Path, options: list[str], message: str) -> None:
    result = train("pretrain", "--resume", "--run", two_steps, *options)
    assert result.exit_code == 2
    assert message in output_text(result)


def test_a_folder_that_cannot_be_resumed_says_why(root: Path, two_steps: Path, tmp_path: Path) -> None:
    nothing = train("pretrain", "--resume", "--run", tmp_path / "gone")
    assert "gone holds no run to resume: config.json is not there" in str(nothing.exception)
    other = train("probe", "--resume", "--run", two_steps)
    assert f"resumed by: cavsync train pretrain --resume --run {two_steps}" in str(other.exception)
    moved = config_of(two_steps) | {"data": config_of(two_steps)["data"] | {"path": str(tmp_path / "was")}}
    (two_steps / "config.json").write_text(json.dumps(moved))
    gone = str(train("pretrain", "--resume", "--run", two_steps).exception)
    assert f"{tmp_path / 'was' / 'dataset.json'} does not exist" in gone
    assert "--data DIR" in gone
    there = events("pretrain", "--resume", "--run", two_steps, "--data", root / "data" / "demo")
    assert there[0]["changes"] == [f"data.path was '{tmp_path / 'was'}', now '{root / 'data' / 'demo'}'"]
    (two_steps / "config.json").write_text("{")
    assert "config.json is damaged" in str(train("pretrain", "--resume", "--run", two_steps).exception)


# A longer run


def test_a_lengthened_cosine_is_stretched_and_says_so(two_steps: Path) -> None:
    """The steps that are added follow the cosine of the new length; the weights of the shorter run are kept."""
    first = (two_steps / "model.safetensors").read_bytes()
    start, *rest = events("pretrain", "--resume", "--run", two_steps, "--steps", "8")
    assert (start["steps_done"], start["num_steps"], config_of(two_steps)["num_steps"]) == (2, 8, 8)
    steps = [event for event in rest if event["event"] == "step"]
    expected = [cosine_lr(step, 8) for step in range(2, 8)]
    assert [event["lr"] for event in steps] == pytest.approx(expected)
    assert start["changes"] == [
        "num_steps was 2, now 8",
        (
            f"the cosine of the learning rate is stretched from 2 to 8 steps: {cosine_lr(2, 8):.3g} in step 3, after "
            f"{cosine_lr(1, 2):.3g} in step 2, and {cosine_lr(7, 8):.3g} in step 8"
        ),
    ]
    assert (two_steps / "model-step-000002.safetensors").read_bytes() == first
    assert (two_steps / "model.safetensors").read_bytes() != first


def test_the_terminal_shows_what_lengthening_does(two_steps: Path) -> None:
    text = output_text(train("pretrain", "--resume", "--run", two_steps, "--epochs", "1"))
    assert "resumed with num_epochs was None, now 1 num_steps was 2, now None the cosine" in text
    assert "stretched from 2 to 3 steps" in text
    assert "3 of 2 clips, 2 done" in text


def test_a_multistep_schedule_stays_at_its_epochs(root: Path, tmp_path: Path) -> None:
    """Three steps make an epoch; the rate halves after the first and is constant in the epochs that are added."""
    halved = sets("schedule.name=multistep", "schedule.milestones=1", "schedule.warmup_fraction=0")
    options = [*micro("--root", root, "--run", tmp_path / "run", "--no-estimate", *halved)]
    options[options.index("--steps") : options.index("--steps") + 2] = ["--epochs", "1"]
    events(*options)
    start, *rest = events("pretrain", "--resume", "--run", tmp_path / "run", "--epochs", "2")
    assert [event["lr"] for event in rest if event["event"] == "step"] == [LR / 2] * 3
    assert start["changes"][-1] == (
        "the multistep learning rate has passed its milestones and is constant: 0.001 in step 4, after 0.002 in step 3, "
        "and 0.001 in step 6"
    )


def test_at_a_constant_rate_a_lengthened_run_equals_a_longer_one(root: Path, tmp_path: Path) -> None:
    constant = ["--no-estimate", *sets("schedule.floor_ratio=1", "schedule.warmup_fraction=0")]
    events(*micro("--root", root, "--run", tmp_path / "long", *constant, "--steps", "5"))
    events(*micro("--root", root, "--run", tmp_path / "run", *constant))
    events("pretrain", "--resume", "--run", tmp_path / "run", "--steps", "5")
    assert_same_weights(tmp_path / "long", tmp_path / "run")


def test_a_run_is_not_made_shorter_than_what_is_done(two_steps: Path) -> None:
    error = str(train("pretrain", "--resume", "--run", two_steps, "--steps", "1").exception)
    assert "has done 2 steps, more than the 1 of the new length" in error
    assert config_of(two_steps)["num_steps"] == 2


def test_a_complete_run_without_its_checkpoints_is_not_begun_anew(two_steps: Path) -> None:
    for path in (two_steps / "checkpoints").iterdir():
        path.unlink()
    error = str(train("pretrain", "--resume", "--run", two_steps, "--steps", "4").exception)
    assert "is complete, and its checkpoints are gone" in error
    assert f"initial_weights={two_steps / 'model.safetensors'}" in error


def test_batch_size_and_epochs_are_fields(root: Path, tmp_path: Path) -> None:
    model = sets(*(one for one in MICRO if not one.startswith("batch_size")), NO_CURVES)
    options = ["pretrain", "--preset", "tiny", "--root", root, "--no-estimate", *model]
    events(*options, "--run", tmp_path / "set", *sets("num_epochs=1", "num_steps=none", "batch_size=3"))
    events(*options, "--run", tmp_path / "options", "--epochs", "1", "--batch-size", "3")
    assert config_of(tmp_path / "set") == config_of(tmp_path / "options")
    assert config_of(tmp_path / "set")["batch_size"] == 3


# Classifiers


@pytest.mark.parametrize("command", ["finetune", "probe"])
def test_a_classifier_is_lengthened_with_its_average(command: str, tmp_path: Path) -> None:
    """At a constant rate two epochs and one more give the weights of three, averaged from the first to the last."""
    data, weights = write_labelled_shards(tmp_path / "data"), pretrained(tmp_path)
    options = [command, "--preset", f"{command}-tiny", "--data", data, "--from", weights, "--batch-size", "4"]
    options += sets("schedule.floor_ratio=1", "schedule.warmup_fraction=0", NO_CURVES)
    for name, epochs in (("run", 2), ("long", 3)):
        length = sets(f"num_epochs={epochs}", f"average_epochs=1,{epochs}")
        events(*options, *length, "--run", tmp_path / name)
    start, *_ = events(command, "--resume", "--run", tmp_path / "run", "--epochs", "3")
    assert (start["steps_done"], start["num_steps"]) == (4, 6)
    assert start["changes"][:2] == [
        "average_epochs was [1, 2], now [1, 3]",
        "num_epochs was 2, now 3",
    ]
    assert_same_weights(tmp_path / "long", tmp_path / "run")
    again = train(command, "--resume", "--run", tmp_path / "run", *sets("average_epochs=2,3"))
    assert "has averaged epochs [1, 3] of the 3 that are done" in str(again.exception)
    refused = train(command, "--resume", "--run", tmp_path / "run", "--modality", "audio")
    assert "head.modality was 'both', now 'audio'" in str(refused.exception)
