"""Proves `cavsync train` and `cavsync config show`: what they print, and what wrong usage ends in."""

import json
import os
import re
import shlex
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.command_line import output_text
from support.known_shards import write_known_shards
from support.labelled_shards import pretrained, write_labelled_shards
from support.trainings import NO_CURVES, micro, run, sets

from cavsync.cli import config
from cavsync.cli.train import command as train
from cavsync.cli.train.run_texts import duration
from cavsync.errors import CavsyncError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with the dataset that preset `tiny` looks for."""
    root = tmp_path_factory.mktemp("root")
    write_known_shards(root / "data" / "demo", num_clips=6)
    return root


def test_pretrain_shows_the_run_before_the_first_step_and_the_weights_after_the_last(
    root: Path, tmp_path: Path
) -> None:
    result = run(train.app, *micro("--root", root, "--run", tmp_path / "run"))
    assert result.exit_code == 0, result.output
    for fact in (
        "preset tiny",
        "6 clips, frames of 32 x 32 px",
        "parameters",
        "2 of 2 clips",
        "cpu, float32",
    ):
        assert fact in output_text(result)
    assert f"Done: 2 steps. Weights: {tmp_path / 'run' / 'model.safetensors'}" in output_text(result)


def test_pretrain_shows_its_time_and_all_its_fields_before_the_first_step(root: Path, tmp_path: Path) -> None:
    output = output_text(run(train.app, *micro("--root", root, "--run", tmp_path / "run")))
    assert re.search(r"time about \d+ s \([\d.]+ clips/s, measured on 2 steps of 2 clips", output)
    # The dataset's own statistics, which the preset leaves open.
    assert "mel_mean=-5.0" in output
    assert "embed_dim=16" in output
    assert "seed=0" in output
    quiet = run(train.app, *micro("--root", root, "--run", tmp_path / "other", "--no-estimate"))
    assert "measured on" not in output_text(quiet)


def test_pretrain_shows_the_teacher_of_tgdp_and_its_distillation(root: Path, tmp_path: Path) -> None:
    options = [part if part != "tiny" else "tgdp-tiny" for part in micro("--root", root)]
    output = output_text(run(train.app, *options, "--run", tmp_path / "run"))
    assert re.search(r"parameters [\d,]+, and [\d,]+ of the teacher, their moving average", output)
    assert re.search(r"contrast [\d.]+, distillation [\d.]+, accuracy", output)
    assert "choice=" in output
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["distillation"] > 0


def test_frames_of_another_size_are_shown_as_resized(root: Path, tmp_path: Path) -> None:
    result = run(train.app, *micro("--root", root, "--run", tmp_path / "run", "--set", "model.image_size=48"))
    assert "frames of 32 x 32 px, resized to 48 x 48" in output_text(result)


def test_clips_that_are_left_out_for_their_gaps_are_counted(tmp_path: Path) -> None:
    write_known_shards(tmp_path / "data" / "demo", num_clips=6, frame_gaps_s={0: [(0.0, 1.0)]})
    limited = (*micro("--root", tmp_path, "--run", tmp_path / "run"), "--set", "data.max_gap_s=0.5")
    assert "5 clips (1 left out by data.max_gap_s or data.keep), frames of 32 x 32 px" in output_text(
        run(train.app, *limited)
    )
    start = json.loads(run(train.app, *limited, "--resume", "--json").stdout.splitlines()[0])
    assert (start["num_clips"], start["num_left_out"]) == (5, 1)


def test_json_prints_one_line_for_each_event(root: Path, tmp_path: Path) -> None:
    result = run(train.app, *micro("--root", root, "--run", tmp_path / "run", "--json"))
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "step", "end"]
    assert (events[0]["num_clips"], events[2]["step"], events[3]["complete"]) == (6, 2, True)
    assert events[0]["estimate"]["seconds"] > 0


def test_the_run_folder_is_named_after_the_preset_and_taken_once(root: Path) -> None:
    assert run(train.app, *micro("--root", root)).exit_code == 0
    assert (root / "runs" / "pretrain-tiny" / "model.safetensors").is_file()
    again = run(train.app, *micro("--root", root))
    assert isinstance(again.exception, CavsyncError)
    assert "continue that run with --resume, or give another folder with --run" in str(again.exception)
    assert run(train.app, *micro("--root", root, "--resume")).exit_code == 0


def test_the_root_comes_from_the_environment(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAVSYNC_ROOT", str(root))
    assert run(train.app, *micro("--run", tmp_path / "run")).exit_code == 0


def test_the_error_of_a_missing_dataset_names_the_file_and_how_to_make_it(tmp_path: Path) -> None:
    result = run(train.app, "pretrain", "--root", tmp_path)
    assert isinstance(result.exception, CavsyncError)
    text = str(result.exception)
    assert str(tmp_path / "data" / "audioset" / "dataset.json") in text
    assert "--data" in text
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (("pretrain",), "audioset"),
        (("pretrain", "--preset", "tiny"), "folder VIDEOS"),
        (("finetune", "--from", "x"), "vggsound"),
        (("probe", "--from", "x", "--preset", "probe-as20k"), "audioset"),
        (("pretrain", "--data", "my clips"), "folder VIDEOS"),
    ],
)
def test_the_command_that_an_error_gives_makes_the_dataset_that_is_missing(
    arguments: tuple[str, ...], source: str, tmp_path: Path
) -> None:
    """Another dataset, in its own folder, would end with the same error."""
    error = str(run(train.app, *arguments, "--root", tmp_path).exception)
    (command,) = re.findall(r"`cavsync (prepare .+?)`", error)
    *named, option, out = shlex.split(command)
    assert (named, option) == (["prepare", *source.split()], "--out")
    assert f"{Path(out) / 'dataset.json'} does not exist" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "tinny"], "There is no preset 'tinny'; did you mean 'tiny'?"),
        (["--set", "optimizer.lrr=3"], "OptimizerConfig has no field 'lrr'; did you mean 'optimizer.lr'?"),
        (["--set", "lr=1e-4"], "PretrainConfig has no field 'lr'; did you mean 'optimizer.lr'?"),
        (["--set", "batch_size=many"], "PretrainConfig.batch_size='many' is not of type int."),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--device", "tpu"], "Invalid value for '--device'"),
        (["--stepz", "3"], "No such option: --stepz"),
    ],
)
def test_wrong_usage_is_named_and_ends_in_2(root: Path, arguments: list[str], expected: str) -> None:
    result = run(train.app, "pretrain", "--root", root, *arguments)
    assert result.exit_code == 2
    assert expected in output_text(result)


def run_alone(arguments: list[str], output: int) -> None:
    """The command as the leader of its own group, with `output` as its standard output."""
    os.setsid()
    os.dup2(output, 1)
    os.close(output)
    sys.stdout = os.fdopen(1, "w")
    train.app(arguments)


def test_a_stopped_run_ends_in_130_and_can_continue(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = micro("--root", root, "--run", folder, "--json", "--steps", "100000", "--num-workers", "1")
    # A copy of this process, since another would import torch for seconds.
    reading, writing = os.pipe()
    process = get_context("fork").Process(target=run_alone, args=([*map(str, arguments)], writing))
    process.start()
    os.close(writing)
    try:
        with os.fdopen(reading) as printed:
            seen = [json.loads(printed.readline())["event"] for _ in range(3)]
            # To the whole group, as a terminal's Ctrl-C goes: the loader's workers get it too.
            os.killpg(process.pid, signal.SIGINT)
            end = json.loads(printed.read().splitlines()[-1])
    finally:
        process.join(60)
        process.kill()
    assert seen == ["start", "step", "step"]
    assert process.exitcode == 130
    assert (end["event"], end["complete"]) == ("end", False)
    assert Path(end["checkpoint"]).is_file()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Options for a dataset with classes and for a model to start from."""
    folder = tmp_path_factory.mktemp("labelled")
    data, weights = write_labelled_shards(folder / "data"), pretrained(folder)
    options = ["--data", data, "--from", weights, "--device", "cpu", "--epochs", "1"]
    return [*options, *sets("batch_size=4", NO_CURVES)]


@pytest.mark.parametrize(
    ("command", "kind"),
    [(["finetune"], "linear"), (["probe"], "attention"), (["probe", "--head", "linear"], "linear")],
)
def test_finetune_and_probe_show_their_run_and_its_scores(
    labelled: list[str | Path], tmp_path: Path, command: list[str], kind: str
) -> None:
    preset = ["--preset", f"{command[0]}-tiny"]
    result = run(train.app, *command, *labelled, *preset, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.output
    output = output_text(result)
    assert f"{kind} on both" in output
    assert "classes 3, single-label; no clip to learn from: never" in output
    assert re.search(
        r"epoch 1: mAP [\d.]+%, AUC .* top-1 [\d.]+% of clips, .* \(1 classes without clips left out\)",
        output,
    )
    assert f"Scores of all classes: {tmp_path / 'run' / 'scores.json'}" in output


def test_one_modality_and_json(labelled: list[str | Path], tmp_path: Path) -> None:
    only = ["--preset", "finetune-tiny", "--modality", "audio", "--json"]
    result = run(train.app, "finetune", *labelled, *only, "--run", tmp_path / "run")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "step", "validation", "end"]
    assert (events[0]["modality"], events[0]["num_classes"], events[4]["complete"]) == ("audio", 3, True)
    assert 0 <= events[3]["top1"] <= 1


def test_probes_are_named_after_their_head_and_taken_once(labelled: list[str | Path], tmp_path: Path) -> None:
    command = ["probe", *labelled, "--preset", "probe-tiny", "--head", "linear", "--root", tmp_path]
    assert run(train.app, *command).exit_code == 0
    assert (tmp_path / "runs" / "probe-tiny-linear" / "model.safetensors").is_file()
    assert "exists and is not overwritten" in str(run(train.app, *command).exception)
    assert run(train.app, *command, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["finetune"], "Name the weights that the encoders start from: --from RUN or --from FILE."),
        (["finetune", "--preset", "tiny"], "There is no classifier preset 'tiny'"),
        (
            ["probe", "--preset", "finetune-tiny"],
            "finetune-tiny trains all weights; start it with `cavsync train finetune`",
        ),
        (["probe", "--head", "mlp"], "Invalid value for '--head'"),
        (
            ["finetune", "--set", "mixing.mixup_probabilty=1"],
            "MixingConfig has no field 'mixup_probabilty'; did you mean 'mixing.mixup_probability'",
        ),
    ],
)
def test_wrong_usage_of_finetune_and_probe_ends_in_2(arguments: list[str], expected: str) -> None:
    result = run(train.app, *arguments)
    assert result.exit_code == 2
    assert expected in output_text(result)


def test_missing_initial_weights_or_a_missing_dataset_are_named(
    labelled: list[str | Path], tmp_path: Path
) -> None:
    gone = run(train.app, "finetune", *labelled, "--from", tmp_path / "gone", "--run", tmp_path / "run")
    assert "gone is not there: give a run folder or a checkpoint file" in str(gone.exception)
    nothing = run(train.app, "finetune", "--from", "x", "--root", tmp_path)
    assert "`cavsync prepare vggsound --out " in str(nothing.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("seconds", "text"), [(5.6, "6 s"), (306, "5 min 6 s"), (14_700, "4 h 5 min"), (1.9e6, "21 d 23 h")]
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_config_show_prints_finetuning_presets() -> None:
    content = json.loads(run(config.app, "show", "--preset", "finetune-as20k", "--json").stdout)
    assert (content["mixing"]["mixup_probability"], content["data"]["split"]) == (0.5, "balanced_train")


def test_config_show_lists_the_presets() -> None:
    result = run(config.app, "show")
    assert result.exit_code == 0
    for name in ("sync-base", "cavmae-base", "tiny", "finetune-as20k", "probe-vggsound"):
        assert name in result.output


def test_config_show_says_how_many_clips_a_preset_needs() -> None:
    listed = run(config.app, "show").output
    assert re.search(r"tiny +64 +random weights +The same graph", listed)
    assert re.search(r"sync-base +512 +ImageNet-MAE ", listed)
    assert re.search(r"probe-tiny +32 +--from ", listed)
    tree = output_text(run(config.app, "show", "--preset", "tiny", "--set", "batch_size=15"))
    assert "Needs 15 clips or more in the split 'train', because a step takes 15" in tree


def test_fewer_clips_than_a_batch_offer_the_option_to_type(root: Path, tmp_path: Path) -> None:
    few = ["pretrain", "--preset", "tiny", "--root", root, "--run", tmp_path / "run", "--steps", "1"]
    message = str(run(train.app, *few, "--device", "cpu").exception)
    assert message.startswith("6 clips do not fill one batch of 64:")
    assert message.endswith("lower the batch, with --batch-size 6.")
    assert not (tmp_path / "run").exists()
    option = message.removesuffix(".").split()[-2:]
    small = sets("model.embed_dim=16", "model.num_heads=2", NO_CURVES)
    assert run(train.app, *few, "--device", "cpu", *small, *option).exit_code == 0


def test_config_show_prints_the_resolved_run() -> None:
    tree = run(config.app, "show", "--preset", "tiny", "--set", "optimizer.lr=0.5")
    assert "lr = 0.5" in tree.output
    content = json.loads(run(config.app, "show", "--preset", "sync-base", "--json").stdout)
    assert (content["batch_size"], content["model"]["audio_rows"]) == (512, 416)


def test_config_show_refuses_an_unknown_preset() -> None:
    result = run(config.app, "show", "--preset", "sync-bass")
    assert result.exit_code == 2
    assert "did you mean 'sync-base'?" in output_text(result)
