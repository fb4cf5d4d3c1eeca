"""The device and the precision that a run computes with."""

import logging
import os
import platform
import resource
import subprocess
import sys

import pytest
import torch

from cavsync.train.engine.device import (
    compile_options,
    inference_precision,
    resolved_compile,
    warn_of_slow_precision,
)


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


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [
        (False, False, "float32"),
        (True, False, "bfloat16"),
        (False, True, "bfloat16"),
    ],
)
def test_a_trained_model_runs_in_bfloat16_where_the_processor_has_products_in_it(
    amx: bool, avx512: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    cpu = torch.device("cpu")
    assert inference_precision("auto", cpu) == expected
    assert [inference_precision(one, cpu) for one in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16")])
def test_a_trained_model_runs_in_bfloat16_on_gpus_from_ampere_on(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert inference_precision("auto", torch.device("cuda")) == expected


def test_long_runs_on_a_gpu_are_compiled_unless_the_user_decides() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    chosen = [resolved_compile("auto", device, steps) for device in (cpu, gpu) for steps in (999, 1000)]
    assert chosen == [False, False, False, True]
    assert not resolved_compile("auto", gpu, 1000, is_small=True)
    for choice in (True, False, "reduce-overhead"):
        assert resolved_compile(choice, cpu, 1, is_small=True) == choice
        assert resolved_compile(choice, gpu, 10_000) == choice


def test_what_is_compiled_and_how() -> None:
    assert compile_options(True) == {}
    assert compile_options("reduce-overhead") == {"mode": "reduce-overhead"}
    assert compile_options(False) is None
    assert compile_options("auto") is None  # not resolved: nobody decided


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_a_step_on_a_cpu_gets_the_memory_that_the_one_before_freed() -> None:
    """Counted in pages that the system hands out for five arrays of 30 MiB, ten times, each time freed, once warm.

    glibc learns by itself to keep some; the environment forbids it that.
    """
    program = """
import resource, torch
from cavsync.train.engine.device import keep_freed_memory

for device in ("cuda", "cpu"):
    keep_freed_memory(torch.device(device))
    for number in range(12):
        if number == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [torch.ones(30 * 2**18) for _ in range(5)]
        del arrays
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1048576", "OMP_NUM_THREADS": "1"}
    counts = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    returned, kept = (int(line) for line in counts.splitlines())
    num_pages = 10 * 5 * 30 * 2**20 // resource.getpagesize()
    assert kept < 0.1 * num_pages
    assert returned > 0.9 * num_pages
