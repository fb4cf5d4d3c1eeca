"""Section b: clips/s, MFU and memory of a training step, against the published code's step on the same device."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmarks.gpu.section import Section
from benchmarks.gpu.upstream import UpstreamStep
from benchmarks.support.full_size import random_batch
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.train.data.pair_rule import Batch
from cavsync.train.engine.config import Compile, Precision
from cavsync.train.engine.distributed import Ranks
from cavsync.train.engine.overlap.batches import on_device
from cavsync.train.engine.step import TrainStep
from cavsync.train.pretrain import presets
from cavsync.train.pretrain.config import PretrainConfig
from cavsync.train.pretrain.flops import flops_of_a_clip
from cavsync.train.pretrain.metrics import PretrainLosses
from cavsync.train.pretrain.objective import PretrainObjective

BATCH_SIZES = (64, 128, 256, 512)
UPSTREAM_BATCH_SIZES = (64, 128, 256)
WARM_UP_STEPS, ROUNDS, STEPS_A_ROUND = 3, 5, 4
# Dense bfloat16 of the data sheets, in TFLOP/s, by a part of the device's name.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165}
# A product that fills the device, whose speed is the peak in practice.
PRODUCT_SIDE = 8192


@dataclass(frozen=True)
class Speed:
    clips_per_s: float
    spread: tuple[float, float]
    mib_a_clip: float


def main() -> None:
    section = Section.from_arguments("throughput")
    record, sizes = section.record, BATCH_SIZES if section.is_full else (4,)
    section.record.add(
        "work of a clip",
        flops_of_a_clip(run_config(section, 1)) / 1e9,
        "GFLOP",
        "with attention, no recomputation",
    )
    if section.is_gpu:
        record.attempt("peak", partial(_peak, section))
    ours: dict[int, Speed] = {}
    for size in sizes:
        record.attempt(f"eager, batch {size}", partial(_ours, section, size, ours), needs_s=15)
    best = max(ours, key=lambda size: ours[size].clips_per_s, default=sizes[0])
    theirs: dict[int, Speed] = {}
    for size in UPSTREAM_BATCH_SIZES if section.is_full else (4,):
        record.attempt(f"as upstream, batch {size}", partial(_upstream, section, size, theirs), needs_s=15)
    # Compiling takes a minute or more; on a CPU it needs a compiler, and shows nothing of a GPU.
    compiled: dict[int, Speed] = {}
    if section.is_gpu:
        record.attempt(
            f"compiled, batch {best}", partial(_ours, section, best, compiled, compile=True), needs_s=50
        )
    # The host takes 6 to 7 ms to start the kernels of a step: graphs can only show where a step is as short.
    graphs: dict[int, Speed] = {}
    if section.is_gpu:
        record.attempt(
            f"CUDA graphs, batch {sizes[0]}",
            partial(_ours, section, sizes[0], graphs, compile="reduce-overhead"),
            needs_s=50,
        )
    everything = {("eager", size): speed for size, speed in ours.items()}
    everything |= {("compiled", size): speed for size, speed in compiled.items()}
    everything |= {("with CUDA graphs", size): speed for size, speed in graphs.items()}
    record.attempt("comparison", partial(_compare, section, everything, theirs))


def _compare(section: Section, ours: dict[tuple[str, int], Speed], theirs: dict[int, Speed]) -> None:
    (kind, size), best = max(ours.items(), key=lambda item: item[1].clips_per_s)
    upstream_size, upstream = max(theirs.items(), key=lambda item: item[1].clips_per_s)
    section.record.add(
        f"best ({kind}, batch {size}) against upstream's best (batch {upstream_size})",
        best.clips_per_s / upstream.clips_per_s,
        "x as fast",
        "aim >= 2.5",
        batch_size=size,
        kind=kind,
    )
    if upstream.mib_a_clip:
        section.record.add(
            "memory a clip, against upstream's", best.mib_a_clip / upstream.mib_a_clip, "x", "aim <= 0.6"
        )


def _peak(section: Section) -> None:
    """What a large product of random bfloat16 numbers reaches, and the data sheet's figure."""
    one, other = (
        torch.randn(PRODUCT_SIDE, PRODUCT_SIDE, device=section.device, dtype=torch.bfloat16) for _ in range(2)
    )
    seconds = _seconds_a_call(section, lambda: one @ other, 10)
    name = torch.cuda.get_device_name()
    sheet = next((peak for part, peak in PEAKS.items() if part in name), None)
    section.record.add(
        "product of 8192 x 8192 bfloat16 matrices",
        2 * PRODUCT_SIDE**3 / seconds / 1e12,
        "TFLOP/s",
        f"data sheet of {name}: {sheet}",
        data_sheet=sheet,
    )


def _ours(section: Section, size: int, speeds: dict[int, Speed], compile: Compile = False) -> None:
    config = run_config(section, size)
    step = train_step(section, config, compile)
    batches = on_device(
        iter(partial(_pinned, section, random_batch(config.batch_size, config.model)), None), section.device
    )
    number = 0

    def take() -> None:
        nonlocal number
        number += 1
        step(next(batches), number, config.optimizer.lr)

    began_s = time.perf_counter()
    take()
    section.wait()
    first_s = time.perf_counter() - began_s
    speed = speeds[size] = _measured(section, take, size)
    step.require_finite()
    kind = {False: "eager", True: "compiled"}.get(compile, compile)
    _add(section, f"{kind}, {config.precision}, batch {size}", speed, f"first step {first_s:.1f} s")


def _upstream(section: Section, size: int, speeds: dict[int, Speed]) -> None:
    step = UpstreamStep(new_model(section), section.device)
    inputs = step.inputs(random_batch(size, section.model))
    speed = speeds[size] = _measured(section, lambda: step(inputs), size)
    _add(section, f"as upstream, float16, batch {size}", speed, "")


def _measured(section: Section, take: Callable[[], object], size: int) -> Speed:
    """Rounds of several steps, each ended by waiting for the device."""
    gc.collect()  # a step refers to itself through its optimizer's hook: the one before may still be there
    if section.is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        still = torch.cuda.memory_allocated()
    for _ in range(WARM_UP_STEPS):
        take()
    rates = [size / _seconds_a_call(section, take, STEPS_A_ROUND, warm_ups=0) for _ in range(ROUNDS)]
    # What a clip takes: the most that was held, less weights, gradients and averages, which are held between steps.
    between = torch.cuda.memory_allocated() if section.is_gpu else 0
    mib = (torch.cuda.max_memory_allocated() - max(still, between)) / 2**20 / size if section.is_gpu else 0.0
    return Speed(statistics.median(rates), (min(rates), max(rates)), mib)


def _add(section: Section, what: str, speed: Speed, note: str) -> None:
    flops = speed.clips_per_s * flops_of_a_clip(run_config(section, 1))
    details: dict[str, object] = {
        "tflops": flops / 1e12,
        "mib_a_clip": speed.mib_a_clip,
        "spread": speed.spread,
    }
    shown = f"{flops / 1e12:.3g} TFLOP/s, {speed.spread[0]:.0f} to {speed.spread[1]:.0f} clips/s"
    if section.is_gpu:
        name = torch.cuda.get_device_name()
        peak = next((peak for part, peak in PEAKS.items() if part in name), None)
        if peak:
            details["mfu"] = flops / 1e12 / peak
            shown += f", MFU {flops / 1e12 / peak:.1%} of {peak} TFLOP/s"
        shown += f", {speed.mib_a_clip:.1f} MiB a clip, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"
    section.record.add(what, speed.clips_per_s, "clips/s", ", ".join(filter(None, [shown, note])), **details)


def _seconds_a_call(section: Section, call: Callable[[], object], calls: int, warm_ups: int = 2) -> float:
    for _ in range(warm_ups):
        call()
    section.wait()
    began_s = time.perf_counter()
    for _ in range(calls):
        call()
    section.wait()
    return (time.perf_counter() - began_s) / calls


def new_model(section: Section) -> CavMaeSync:
    """With random weights, made on the device: on a CPU their numbers take seconds to draw."""
    torch.manual_seed(0)
    with section.device:
        return CavMaeSync(section.model).to(section.device)


def run_config(section: Section, size: int) -> PretrainConfig:
    precision: Precision = "bfloat16" if section.is_gpu else "float32"
    return replace(
        presets.sync_base(),
        model=section.model,
        batch_size=size,
        micro_batch=None,
        precision=precision,
        initial_weights=None,  # a file that would have to be fetched
    )


def train_step(
    section: Section, config: PretrainConfig, compile: Compile = False
) -> TrainStep[PretrainLosses]:
    config, model = replace(config, compile=compile), new_model(section).train()
    objective = PretrainObjective(config, model, section.device, Ranks())
    return TrainStep(config, model, objective, section.device)


def _pinned(section: Section, batch: Batch) -> Batch:
    if not section.is_gpu:
        return batch
    for name, value in batch.items():
        if isinstance(value, torch.Tensor) and not value.is_pinned():
            batch[name] = value.pin_memory()
    return batch


if __name__ == "__main__":
    main()
