"""Proves what goes on beside a step: nothing waits for the device, a bad step changes no weight, checkpoints are exact."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gpu.devices import CPU, on_each_device
from support.gpu.unread import nothing_read
from support.known_shards import micro_run, write_known_shards
from support.rank_work import run_of, some_batch
from support.trainings import Calls

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.data import images
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.metrics import StepMetrics
from cavsync.train.engine.overlap.batches import on_device
from cavsync.train.engine.saving.background import snapshot
from cavsync.train.engine.saving.checkpoints import Checkpoints
from cavsync.train.engine.step import NonFiniteError, TrainStep
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.metrics import PretrainLosses
from cavsync.train.pretrain.objective import PretrainObjective
from cavsync.train.pretrain.trainer import pretrain

VARIANTS: list[dict[str, Any]] = [
    {},
    {"micro_batch": 4},
    {"precision": "bfloat16"},
    {"precision": "float16"},
    {"activation_checkpointing": True},
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"), num_clips=6)


@pytest.fixture
def a_step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host learns of a step that is not finite one step later, as on a GPU."""
    monkeypatch.setattr(TrainStep, "__init__", partialmethod(TrainStep.__init__, steps_ahead=1))


def step_of(config: PretrainConfig, device: torch.device, steps_ahead: int) -> TrainStep[PretrainLosses]:
    torch.manual_seed(0)
    model = CavMaeSync(config.model).to(device).train()
    return TrainStep(
        config, model, PretrainObjective(config, model, device, Ranks()), device, steps_ahead=steps_ahead
    )


@on_each_device
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_step_waits_for_nothing_on_the_device(changes: dict[str, Any], device: torch.device) -> None:
    config = replace(run_of(), **changes)
    config = replace(config, optimizer=replace(config.optimizer, clip_grad_norm=1.0))
    step, batch = step_of(config, device, steps_ahead=3), some_batch(config)
    batch = {name: value.to(device) if name != "key" else value for name, value in batch.items()}
    step(batch, 1, 1e-3)  # makes the optimizer's means
    with nothing_read(device):
        step(batch, 2, 1e-3)
        step(batch, 3, 1e-3)
    step.require_finite()


@pytest.mark.parametrize("sabotage", ["a constant of the host", "a number that is read", "a size"])
def test_what_waits_for_the_device_is_noticed(sabotage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = images.normalise_images

    def waiting(pixels: torch.Tensor) -> torch.Tensor:
        if sabotage == "a constant of the host":
            return plain(pixels) * torch.tensor([1.0])
        if sabotage == "a size":
            pixels.nonzero()
        return plain(pixels) * float(pixels.max())

    monkeypatch.setattr("cavsync.train.pretrain.objective.normalise_images", waiting)
    step, batch = step_of(run_of(), CPU, steps_ahead=3), some_batch(run_of())
    with nothing_read(CPU), pytest.raises(AssertionError, match="would wait for the device"):
        step(batch, 1, 1e-3)


@on_each_device
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_no_step_changes_a_weight_from_one_that_is_not_finite_on(
    precision: Any, device: torch.device
) -> None:
    config = replace(run_of(), precision=precision)
    step, batch = step_of(config, device, steps_ahead=2), some_batch(config)
    step(batch, 1, 1e-3)
    before = snapshot({"model": step.model.state_dict(), "optimizer": step.optimizer.state_dict()})
    step({**batch, "audio": batch["audio"] * float("nan"), "key": ["bad"] * 8}, 2, 1e-3)
    step(batch, 3, 1e-3)
    with pytest.raises(
        NonFiniteError, match=r"Step 2 is not finite: .*Its clips: bad, bad.*Nothing was"
    ) as error:
        step(batch, 4, 1e-3)
    assert error.value.keys == ["bad"] * 8
    after = snapshot({"model": step.model.state_dict(), "optimizer": step.optimizer.state_dict()})
    for one, other in zip(tensors(before), tensors(after), strict=True):
        assert torch.equal(one, other)


def tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from tensors(value)


def test_a_run_a_step_ahead_writes_no_checkpoint_from_a_bad_step_on(
    shards: Path, tmp_path: Path, a_step_ahead: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = CavMaeSync.forward
    calls = iter(range(1, 9))

    def poisoned(model: CavMaeSync, audio: torch.Tensor, *rest: torch.Tensor) -> object:
        return forward(model, audio * float("nan") if next(calls) == 2 else audio, *rest)

    monkeypatch.setattr(CavMaeSync, "forward", poisoned)
    config = micro_run(shards, checkpoint_every_steps=2, log_every_steps=4)
    with pytest.raises(NonFiniteError, match=r"Step 2 is not finite: .* All its clips: .*not-finite\.json"):
        pretrain(config, tmp_path / "run", device="cpu")
    assert Checkpoints(tmp_path / "run").newest() is None


@on_each_device
def test_batches_arrive_in_their_order(device: torch.device) -> None:
    given = [{"key": [str(number)], "image": torch.full((2, 3), number)} for number in range(5)]
    if device.type == "cuda":
        given = [{**batch, "image": batch["image"].pin_memory()} for batch in given]
    came = list(on_device(iter(given), device))
    assert [batch["key"] for batch in came] == [batch["key"] for batch in given]
    assert [batch["image"].tolist() for batch in came] == [batch["image"].tolist() for batch in given]
    assert all(batch["image"].device.type == device.type for batch in came)
    if device.type == "cpu":
        assert all(one is other for one, other in zip(came, given, strict=True))


def test_a_checkpoint_is_that_of_its_step_although_training_goes_on(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = micro_run(shards, checkpoint_every_steps=2, num_steps=3)
    # At a constant rate the first two steps do not depend on the length of the run.
    config = replace(config, schedule=replace(config.schedule, warmup_fraction=0.0, floor_ratio=1.0))
    short = pretrain(replace(config, num_steps=2), tmp_path / "short", device="cpu")
    third_is_done, save = threading.Event(), Checkpoints.save

    def late(checkpoints: Checkpoints, step: int, state: dict[str, Any]) -> Path:
        assert third_is_done.wait(60)
        return save(checkpoints, step, state)

    def mark(metrics: StepMetrics) -> None:
        if metrics.step == 3:
            third_is_done.set()

    monkeypatch.setattr(Checkpoints, "save", late)
    result = pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=mark)])
    assert result.checkpoint.is_file()
    saved, expected = (
        torch.load(run / "checkpoints" / "step-000002.pt", weights_only=True)
        for run in (result.run_dir, short.run_dir)
    )
    for one, other in zip(tensors(saved), tensors(expected), strict=True):
        assert torch.equal(one, other)


def test_a_run_that_a_signal_stops_waits_for_its_checkpoint(shards: Path, tmp_path: Path) -> None:
    def stop(metrics: StepMetrics) -> None:
        if metrics.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    config = micro_run(shards, checkpoint_every_steps=1)
    result = pretrain(config, tmp_path / "run", device="cpu", callbacks=[Calls(on_step=stop)])
    assert (result.step, result.checkpoint.name) == (2, "step-000002.pt")
    assert result.checkpoint.is_file()
    assert (result.checkpoint.parent / "last.pt").resolve() == result.checkpoint.resolve()
