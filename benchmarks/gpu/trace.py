"""Section e: a trace of five training steps, and the kernels that take most of their time."""

import gzip
import shutil
from functools import partial
from itertools import repeat

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.section import Section
from benchmarks.gpu.throughput import run_config, train_step
from benchmarks.support.full_size import random_batch

STEPS, WARM_UP_STEPS, ROWS = 5, 3, 25
BATCH_SIZE, TOY_BATCH_SIZE = 128, 4
MAX_TRACE_BYTES = 15 * 2**20


def main() -> None:
    section = Section.from_arguments("trace")
    section.record.attempt("trace", partial(_trace, section), needs_s=15)


def _trace(section: Section) -> None:
    config = run_config(section, BATCH_SIZE if section.is_full else TOY_BATCH_SIZE)
    step, batch = train_step(section, config), random_batch(config.batch_size, config.model)
    for number, lr in enumerate(repeat(1e-4, WARM_UP_STEPS), start=1):
        step(batch, number, lr)
    section.wait()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if section.is_gpu else [])]
    with profile(activities=activities) as profiler:
        for number, lr in enumerate(repeat(1e-4, STEPS), start=WARM_UP_STEPS + 1):
            step(batch, number, lr)
        section.wait()
    averages = profiler.key_averages()
    by = "self_device_time_total" if section.is_gpu else "self_cpu_time_total"
    first = sorted(averages, key=lambda event: getattr(event, by), reverse=True)[:ROWS]
    total = sum(getattr(event, by) for event in averages) or 1
    for event in first:
        microseconds = getattr(event, by)
        section.record.add(
            event.key[:70],
            microseconds / STEPS / 1000,
            "ms a step",
            f"{microseconds / total:.1%}, {event.count / STEPS:.0f} calls",
        )
    _write(section, profiler)


def _write(section: Section, profiler: profile) -> None:
    plain, packed = section.out / "trace-events.json", section.out / "trace-events.json.gz"
    profiler.export_chrome_trace(str(plain))
    with plain.open("rb") as events, gzip.open(packed, "wb", compresslevel=6) as file:
        shutil.copyfileobj(events, file)
    plain.unlink()
    size = packed.stat().st_size
    if size > MAX_TRACE_BYTES:
        packed.unlink()
    kept = "kept" if size <= MAX_TRACE_BYTES else "too large, left out"
    section.record.add("trace for chrome://tracing", size / 2**20, "MiB", kept)


if __name__ == "__main__":
    main()
