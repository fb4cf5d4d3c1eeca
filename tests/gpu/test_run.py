"""Proves that a run on a device goes on where it was, ends on a signal, and joins the processes of a launcher."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from support.gpu.devices import full_float32, on_each_device
from support.known_shards import micro_run, write_known_shards
from support.rank_work import run_of, some_batch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.data.config import DataConfig
from cavsync.train.engine.callbacks import TrainerCallback
from cavsync.train.engine.distributed import Ranks, _Gather, joined
from cavsync.train.engine.metrics import StepMetrics
from cavsync.train.pretrain.objective import PretrainObjective
from cavsync.train.pretrain.trainer import pretrain

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    with full_float32():
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_shards(tmp_path_factory.mktemp("shards"), num_clips=6)


class Recorder(TrainerCallback):
    """The clips of each step; a SIGTERM after step `stop_after`."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after, self.keys = stop_after, list[list[str]]()

    def on_step_end(self, metrics: StepMetrics[Any], model: nn.Module, batch: Any) -> None:
        self.keys.append(list(batch["key"]))
        if metrics.step == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {one["step"]: one["loss"] for one in lines}


@on_each_device
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stopped_run_resumes_in_order_and_on_its_curve(
    num_workers: int, device: torch.device, shards: Path, tmp_path: Path
) -> None:
    data = DataConfig(path=str(shards), num_workers=num_workers, image_augmentation=True)
    config = micro_run(shards, num_steps=6, checkpoint_every_steps=2, data=data)
    name: Any = device.type
    whole, first, second = Recorder(), Recorder(stop_after=4), Recorder()
    pretrain(config, tmp_path / "whole", device=name, callbacks=[whole])
    stopped = pretrain(config, tmp_path / "run", device=name, callbacks=[first])
    assert (stopped.step, stopped.checkpoint.name) == (4, "step-000004.pt")
    resumed = pretrain(config, tmp_path / "run", resume=True, device=name, callbacks=[second])
    assert resumed.complete
    assert first.keys + second.keys == whole.keys
    expected = losses(tmp_path / "whole")
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]
    # The same bits on a CPU; a GPU adds in another order each time.
    exactly = device.type == "cpu"
    assert losses(tmp_path / "run") == (expected if exactly else pytest.approx(expected, rel=1e-3))


@on_each_device
def test_the_process_of_a_launcher_communicates_on_its_device(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through NCCL on a GPU, which takes one process each, and through gloo on the CPU."""
    config = replace(run_of(), batch_size=8)
    expected = gradients(config, device, lambda model: model)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launched = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in launched.items():
        monkeypatch.setenv(name, str(value))
    with joined(device) as ranks:
        assert ranks == Ranks(0, 1)
        rows = torch.arange(6.0, device=device).reshape(2, 3).requires_grad_()
        _Gather.apply(rows, ranks).square().sum().backward()
        total = torch.ones(3, device=device)
        dist.all_reduce(total)
        averaged = gradients(
            config, device, lambda model: DistributedDataParallel(model, gradient_as_bucket_view=True)
        )
        flags = torch.ones(1)
        dist.all_reduce(flags)  # between CPUs
    assert rows.grad is not None
    assert rows.grad.tolist() == (2 * rows).tolist()
    assert total.tolist() == [1, 1, 1]
    for one, other in zip(averaged, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def gradients(config: Any, device: torch.device, wrapped: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = CavMaeSync(config.model).to(device).train()
    objective = PretrainObjective(config, model, device, Ranks())
    objective._replica = wrapped(model)
    objective.backward(some_batch(config), lambda loss: loss)
    return [one.grad.detach().cpu().clone() for one in model.parameters() if one.grad is not None]
