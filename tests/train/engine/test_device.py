"""The device and the precision that a run computes with."""

import logging

import pytest
import torch

from cavsync.train.engine.device import compiles, warn_of_slow_precision


@pytest.mark.parametrize(
    ("level", "precision", "warned"),
    [("AVX2", "bfloat16", True), ("AVX2", "float32", False), ("AVX512", "bfloat16", False)],
)
def test_half_precision_on_a_processor_without_it_names_the_way_out(
    level: str,
    precision: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    with caplog.at_level(logging.WARNING):
        warn_of_slow_precision(torch.device("cpu"), precision)
    assert ("--set precision=float32" in caplog.text) is warned


def test_long_runs_on_a_gpu_are_compiled_unless_the_user_decides() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [compiles("auto", device, steps) for device in (cpu, gpu) for steps in (999, 1000)] == [
        *(False, False),
        *(False, True),
    ]
    assert compiles(True, cpu, 1)
    assert not compiles(False, gpu, 10_000)
