"""The device and the precision that a run computes with."""

import logging

import pytest
import torch

from cavsync.train.engine.device import warn_of_slow_precision


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
