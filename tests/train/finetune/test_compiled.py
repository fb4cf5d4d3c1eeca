"""Proves when a classifier is compiled, and that its run says so beforehand; tests/gpu compiles one and compares."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.labelled_shards import micro_finetuning, micro_probe, pretrained, write_labelled_shards
from support.trainings import Calls

from cavsync.cli.train.finetune import describe
from cavsync.train.engine import device as devices
from cavsync.train.finetune.config import FinetuneConfig
from cavsync.train.finetune.metrics import FinetuneFacts, FinetuneResult
from cavsync.train.finetune.trainer import FinetuneTask, finetune

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("pretrained"))


def trained(config: FinetuneConfig, folder: Path) -> tuple[FinetuneResult, FinetuneFacts]:
    facts: list[Any] = []
    result = finetune(config, folder, device="cpu", callbacks=[Calls(on_start=facts.append)])
    return result, facts[0]


def test_a_compiled_run_says_so_before_its_first_step_and_calls_what_was_compiled(
    shards: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*inputs: Any) -> Any:
            calls.append(function.__name__)
            return function(*inputs)

        return call

    monkeypatch.setattr("cavsync.train.finetune.objective.torch.compile", compiled)
    config = micro_finetuning(shards, weights, "num_epochs=1", "average_epochs=none")
    plain, plain_facts = trained(config, tmp_path / "plain")
    assert "compiled" not in describe(plain_facts)["device"]
    assert not calls
    other, facts = trained(replace(config, compile=True), tmp_path / "compiled")
    assert describe(facts)["device"] == "cpu, float32, compiled: the first step takes long"
    assert calls == 2 * ["_logits"]
    assert plain.weights is not None
    assert other.weights is not None
    for name, tensor in load_file(plain.weights).items():
        assert torch.equal(load_file(other.weights)[name], tensor)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (("cache_features=false",), True),
        (("cache_features=true",), False),
        (("cache_features=true", "compile=true"), True),
        (("cache_features=false", "compile=false"), False),
    ],
)
def test_a_long_run_on_a_gpu_is_compiled_unless_only_a_head_is_computed(
    sets: tuple[str, ...], expected: bool, shards: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = devices.resolved_compile
    monkeypatch.setattr(
        "cavsync.train.finetune.trainer.resolved_compile",
        lambda choice, device, steps, **options: asked(choice, torch.device("cuda"), steps, **options),
    )
    monkeypatch.setattr(devices, "STEPS_WORTH_COMPILING", 4)
    task = FinetuneTask(micro_probe(shards, weights, "num_epochs=2", "average_epochs=none", *sets), CPU)
    assert task.num_steps == 4
    assert task.compile is expected
