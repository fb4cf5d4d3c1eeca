"""Proves the moving average of the weights: it changes nothing of the training, is resumed to the bit, and is scored and
exported beside the weights."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from support.command_line import output_text, run
from support.known_shards import micro_run
from support.labelled_shards import micro_probe, pretrained, write_labelled_shards
from support.rank_work import CPU, forked_ranks, run_of, some_batch, train
from support.trainings import Calls
from torch import Tensor

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import load_model
from cavsync.train.engine.config import ConfigError, EmaConfig
from cavsync.train.engine.metrics import RunResult
from cavsync.train.engine.overrides import apply_overrides
from cavsync.train.finetune.trainer import finetune
from cavsync.train.pretrain.config import PretrainConfig, PretrainMonitorConfig
from cavsync.train.pretrain.objective import pretrain_step
from cavsync.train.pretrain.trainer import pretrain
from cavsync.train.reporting.plots import draw_validation

MOMENTUM = 0.8


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("shards"))


def averaging(shards: Path, momentum: float = MOMENTUM, **changes: Any) -> PretrainConfig:
    """Four steps, with a validation after every second."""
    monitor = PretrainMonitorConfig(tracker=None, every_steps=2, num_images=0, curves=False)
    return micro_run(shards, **({"ema": EmaConfig(momentum=momentum), "monitor": monitor} | changes))


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return pretrain(averaging(shards), tmp_path_factory.mktemp("whole") / "run", device="cpu")


def average_of(result: RunResult) -> dict[str, Tensor]:
    average: dict[str, Tensor] = torch.load(result.checkpoint, weights_only=True)["ema"]
    return average


def validations(result: RunResult) -> list[dict[str, float]]:
    return [json.loads(line) for line in (result.run_dir / "validation.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_it_moves_once_a_step_towards_the_weights(micro_batch: int | None) -> None:
    config = replace(run_of(), ema=EmaConfig(momentum=MOMENTUM), micro_batch=micro_batch)
    torch.manual_seed(0)
    step = pretrain_step(config, CavMaeSync(config.model), CPU)
    trained = {name: one for name, one in step.model.named_parameters() if one.requires_grad}
    assert step.ema.weights.keys() == trained.keys()
    expected = {name: one.detach().double() for name, one in trained.items()}
    for number in (1, 2, 3):
        step(some_batch(config, number), number, lr=1e-2)
        for name, one in trained.items():
            expected[name] = MOMENTUM * expected[name] + (1 - MOMENTUM) * one.detach().double()
    for name, tensor in step.ema.weights.items():
        torch.testing.assert_close(tensor.double(), expected[name], atol=1e-6, rtol=1e-5)
    assert not torch.equal(step.ema.weights["norm_a.weight"], trained["norm_a.weight"])


def test_it_is_off_by_default_and_changes_nothing_of_the_training(
    shards: Path, whole: RunResult, tmp_path: Path
) -> None:
    plain = pretrain(averaging(shards, ema=EmaConfig()), tmp_path / "plain", device="cpu")
    checkpoints = [torch.load(result.checkpoint, weights_only=True) for result in (plain, whole)]
    assert checkpoints[0].keys() == checkpoints[1].keys() - {"ema"}
    assert torch.equal(checkpoints[0]["rng"], checkpoints[1]["rng"])
    weights = load_file(plain.weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(whole.weights).items())
    ours, theirs = validations(whole), validations(plain)
    assert [{name: one[name] for name in other} for one, other in zip(ours, theirs, strict=True)] == theirs
    assert {name for name in ours[0] if name not in theirs[0]} == {
        *("ema_r1_audio_to_video", "ema_r1_video_to_audio"),
        *("ema_effective_rank_audio", "ema_effective_rank_image"),
    }
    assert ours[1]["ema_effective_rank_audio"] != ours[1]["effective_rank_audio"]


def test_the_curves_of_a_validation_have_the_average_dashed_beside_the_weights(whole: RunResult) -> None:
    def lines(table: pd.DataFrame) -> dict[str, tuple[str, list[float]]]:
        axes = Figure().subplots()
        draw_validation(axes, table, "effective_rank_audio", "effective_rank_image", "effective rank")
        return {str(one.get_label()): (one.get_linestyle(), list(one.get_ydata())) for one in axes.lines}

    table = pd.DataFrame(validations(whole))
    drawn = lines(table)
    for side in ("audio", "image"):
        assert drawn[f"effective rank {side}"] == ("-", table[f"effective_rank_{side}"].tolist())
        assert drawn[f"ema effective rank {side}"] == ("--", table[f"ema_effective_rank_{side}"].tolist())
    without = table[[name for name in table if not name.startswith("ema_")]]
    assert set(lines(without)) == {"effective rank audio", "effective rank image"}


def test_two_steps_and_two_more_equal_four(shards: Path, whole: RunResult, tmp_path: Path) -> None:
    def stop(metrics: Any) -> None:
        if metrics.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    config = averaging(shards)
    assert pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop)]).step == 2
    resumed = pretrain(config, tmp_path / "run", device="cpu", resume=True)
    expected = average_of(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in average_of(resumed).items())
    assert validations(resumed) == validations(whole)


def test_two_processes_keep_the_average_of_one(shards: Path, whole: RunResult, tmp_path: Path) -> None:
    with forked_ranks(2) as ranks:
        ranks(2, train, averaging(shards), tmp_path / "both", {})
    checkpoint = torch.load(tmp_path / "both" / "checkpoints" / "last.pt", weights_only=True)
    for name, tensor in average_of(whole).items():
        # The bias of a key has no gradient but rounding, which Adam scales to the size of any other.
        if not name.endswith("attn.qkv.bias"):
            torch.testing.assert_close(checkpoint["ema"][name], tensor, atol=1e-3, rtol=0)
    torch.manual_seed(averaging(shards).seed)
    start, moved = CavMaeSync(averaging(shards).model).state_dict(), checkpoint["ema"]
    assert max((moved[name] - start[name]).abs().max() for name in moved) > 0.01


def test_momentum_0_scores_as_the_weights_in_a_classifiers_validation_too(
    shards: Path, tmp_path: Path
) -> None:
    config = micro_probe(shards, pretrained(tmp_path / "pretrained"), "ema.momentum=0", "average_epochs=none")
    result = finetune(config, tmp_path / "run", device="cpu")
    last = validations(result)[-1]
    for name in ("mean_average_precision", "auc", "top1"):
        assert last[f"ema_{name}"] == last[name]
    assert average_of(result).keys() < load_file(result.weights).keys()


def test_the_average_is_exported_from_a_run_and_from_a_checkpoint(whole: RunResult, tmp_path: Path) -> None:
    expected = torch.load(whole.checkpoint, weights_only=True)["model"] | average_of(whole)
    for source, name in ((whole.run_dir, "run.pth"), (whole.checkpoint, "checkpoint.pth")):
        exported = run("checkpoint", "export", "--ema", source, tmp_path / name)
        assert exported.exit_code == 0, exported.output
        loaded = load_model(tmp_path / name).state_dict()
        assert all(torch.equal(tensor, loaded[one]) for one, tensor in expected.items())
    record = json.loads((tmp_path / "run.pth.json").read_text())
    assert record["training"]["weights"] == "their moving average, ema.momentum"
    weights = load_file(whole.weights)
    assert not torch.equal(loaded["norm_a.weight"], weights["norm_a.weight"])


def test_what_holds_no_average_says_how_to_train_one(shards: Path, whole: RunResult, tmp_path: Path) -> None:
    of_weights = run("checkpoint", "export", "--ema", whole.weights, tmp_path / "out.pth")
    assert "holds no moving average of the weights: give a run that was trained with --set" in str(
        of_weights.exception
    ) + output_text(of_weights)
    (tmp_path / "empty").mkdir()
    of_folder = run("checkpoint", "export", "--ema", tmp_path / "empty", tmp_path / "out.pth")
    assert "holds no checkpoints/last.pt" in str(of_folder.exception) + output_text(of_folder)
    assert not (tmp_path / "out.pth").exists()
    with pytest.raises(ConfigError, match=r"ema.momentum=1.2 must lie in \[0, 1\]; none keeps no average"):
        apply_overrides(averaging(shards), ["ema.momentum=1.2"])
