"""What a training step costs at the paper's size, against the same step with upstream's attention and optimizer.

    python -m benchmarks.step [--batch-size N] [--rounds N]
    python -m benchmarks.step --device cuda [--batch-size 120] [--peak-tflops 989]

On a CPU the variants take turns, each in a process of its own, whose greatest memory is in the table. On a GPU the table
tells clips/s, the share of the device's peak that the products use (MFU), with and without torch.compile.
"""

import multiprocessing
import resource
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
import typer

from benchmarks.support import results, timing
from benchmarks.support.full_size import Step, Variant
from cavsync.train.engine.device import WITHOUT_HALF_PRECISION

UPSTREAM, OURS = "as upstream, float32", "cavsync, float32"
UPSTREAM_BF16, OURS_BF16 = "as upstream, bfloat16", "cavsync, bfloat16"
# Each is compared with upstream's recipe in its own precision.
BASELINES = {UPSTREAM: UPSTREAM, OURS: UPSTREAM, UPSTREAM_BF16: UPSTREAM_BF16, OURS_BF16: UPSTREAM_BF16}
AIMS = {OURS: ">= 1.4 x, <= 0.85 x memory", OURS_BF16: ">= 1 x"}
# Dense bfloat16, from the makers' data sheets, in TFLOP/s.
PEAKS: Mapping[str, float] = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165}
# What training of large transformers reaches of an H100's peak.
ASSUMED_MFU = 0.4


def main(
    device: str = "cpu", batch_size: int = 8, rounds: int = 3, steps: int = 20, peak_tflops: float = 0
) -> None:
    if device == "cpu":
        on_cpu(batch_size, rounds)
    else:
        on_gpu(device, batch_size, steps, peak_tflops)


def on_cpu(batch_size: int, rounds: int) -> None:
    """In bfloat16 only where the processor computes in it: elsewhere a step takes minutes, and shows nothing."""
    variants = {
        UPSTREAM: Variant(batch_size=batch_size, as_upstream=True),
        OURS: Variant(batch_size=batch_size),
    }
    notes, level = [_memory(batch_size), *facts()], torch.backends.cpu.get_cpu_capability()
    if level == WITHOUT_HALF_PRECISION:
        notes.append(f"bfloat16 is not measured: this processor ({level}) has no instructions for it.")
    else:
        bfloat16 = Variant(batch_size=batch_size, precision="bfloat16")
        variants |= {UPSTREAM_BF16: replace(bfloat16, as_upstream=True), OURS_BF16: bfloat16}
    costs, peaks = compared(variants, rounds)
    rows = [
        results.Row(
            what=f"{name}, batch {batch_size}",
            values=costs[name].wall_s,
            unit="s",
            ratio=timing.ratio(costs[BASELINES[name]].wall_s, costs[name].wall_s),
            to="as fast as upstream",
            peak_mib=peaks[name],
            aim=AIMS.get(name, ""),
        )
        for name in variants
    ]
    results.publish("step", "A training step of CAV-MAE Sync", rows, notes)


def compared(
    variants: Mapping[str, Variant], rounds: int
) -> tuple[dict[str, timing.Series], dict[str, float]]:
    with ExitStack() as stack:
        processes = {name: stack.enter_context(_process(variant)) for name, variant in variants.items()}
        actions = {name: partial(_wait, process, _take_step) for name, process in processes.items()}
        costs = timing.in_turns(actions, rounds)
        peaks = {name: process.submit(_peak_mib).result() for name, process in processes.items()}
    return costs, peaks


def _process(variant: Variant) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(variant,)
    )


def _wait(process: ProcessPoolExecutor, action: timing.Action) -> None:
    process.submit(action).result()


def _prepare(variant: Variant) -> None:
    global _step
    _step = Step(variant)


def _take_step() -> None:
    _step()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _memory(batch_size: int) -> str:
    """What one more clip in the batch takes."""
    few, many = (
        timing.in_own_process(partial(_two_steps, Variant(batch_size=size))).peak_mib or 0
        for size in (batch_size // 4, batch_size)
    )
    each = (many - few) / (batch_size - batch_size // 4)
    return f"Memory in float32: {many - batch_size * each:,.0f} MiB and {each:,.0f} MiB for each clip of the batch."


def _two_steps(variant: Variant) -> None:
    """The second has the optimizer's averages, which the first ends with, beside its activations."""
    step = Step(variant)
    step()
    step()


def facts() -> list[str]:
    """Of one step, whatever the device."""
    one = Step(Variant(batch_size=1))
    flops = one.num_flops()
    num_graphs, num_breaks = one.graphs()
    clips_per_s = ASSUMED_MFU * PEAKS["H100"] * 1e12 / flops
    work = (
        f"A clip takes {flops / 1e9:.0f} GFLOP. An H100 at {ASSUMED_MFU:.0%} of its peak would take {clips_per_s:,.0f} "
        "clips/s; benchmarks.load tells what one process of a loader makes."
    )
    graph = (
        f"A step is {one.num_operations():,} operations; torch.compile takes the forward pass as {num_graphs} graph(s), "
        f"with {num_breaks} break(s)."
    )
    return [work, graph]


def on_gpu(device: str, batch_size: int, steps: int, peak_tflops: float) -> None:
    if not torch.cuda.is_available():
        raise SystemExit(
            f"--device {device}: torch sees no GPU here; leave the option out to measure on the CPU."
        )
    name = torch.cuda.get_device_name(device)
    peak = peak_tflops or next((tflops for part, tflops in PEAKS.items() if part in name), 0)
    if not peak:
        raise SystemExit(f"The peak of {name} is not known: give --peak-tflops, dense, in bfloat16.")
    rows = [
        _measured(
            Variant(batch_size=batch_size, precision="bfloat16", compile=compiled, device=device), steps, peak
        )
        for compiled in (False, True)
    ]
    title = f"A training step of CAV-MAE Sync on {name}, batch {batch_size}, bfloat16"
    results.publish("step-gpu", title, rows, [f"MFU against {peak:g} TFLOP/s."])


def _measured(variant: Variant, steps: int, peak_tflops: float) -> results.Row:
    flops = variant.batch_size * Step(Variant(batch_size=1)).num_flops()
    torch.cuda.reset_peak_memory_stats(variant.device)
    step = Step(variant)
    for _ in range(3):  # compiles, and finds the fastest kernels
        step()
    rates = []
    for _ in range(steps):
        began_s = time.perf_counter()
        step()
        rates.append(variant.batch_size / (time.perf_counter() - began_s))
    row = results.Row(
        what="compiled" if variant.compile else "not compiled",
        values=rates,
        unit="clips/s",
        peak_mib=torch.cuda.max_memory_allocated(variant.device) / 2**20,
    )
    mfu = row.median / variant.batch_size * flops / (peak_tflops * 1e12)
    return results.Row(**{**vars(row), "ratio": mfu, "to": "MFU"})


if __name__ == "__main__":
    typer.run(main)
