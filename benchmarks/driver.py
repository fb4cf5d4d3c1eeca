"""The driver of a preparation with very many workers, which wait instead of decoding.

    python -m benchmarks.driver [--shard-s S] [--rounds N]

One Ray actor stands for all workers: each of its calls takes a shard's task, waits as long as a worker would work on it, reports counts
of clips as a worker does, and returns a record. The driver is the product's own, so its work for each shard is measured; that
of Ray's scheduling of so many processes over nodes is not. The default time of a shard is 512 clips of 65 ms.
"""

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import ray
import typer

from benchmarks.plan import planned
from benchmarks.support import large, results, timing
from cavsync.pipeline.dataset.done_record import DoneRecord, finished_record
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.jobs.ray_runner import REPORT_EVERY_S, ShardDriver
from cavsync.pipeline.jobs.shard import ShardTask
from cavsync.pipeline.jobs.work import Work, Workers

NUM_WORKERS = (64, 256, 1024)
SHARD_S = 33.0


@dataclass(frozen=True)
class Figures:
    shards_per_s: float
    driver_ms: float
    """CPU time of the driver's process for each shard."""
    ray_ms: float
    """CPU time of Ray's other processes for each shard, without the actor that stands for the workers."""
    peak_mib: float


def main(shard_s: float = SHARD_S, rounds: int = 3) -> None:
    rows = []
    for num_workers in NUM_WORKERS:
        found = measure(num_workers, shard_s, rounds)
        title, most = f"{num_workers:,} workers", num_workers / shard_s
        share = found.shards_per_s / most
        rows += [
            results.Row(what=f"{title}: shards a second", values=[found.shards_per_s], unit="/s", ratio=share, to="what they could make"),
            results.Row(what=f"{title}: driver, CPU time a shard", values=[found.driver_ms], unit="ms", peak_mib=found.peak_mib),
            results.Row(what=f"{title}: Ray, CPU time a shard", values=[found.ray_ms], unit="ms"),
        ]  # fmt: skip
    results.publish("driver", f"The driver of simulated workers, {shard_s:g} s a shard", rows)


def measure(num_workers: int, shard_s: float, rounds: int) -> Figures:
    """The driver of `rounds` shards for each worker, in a process of its own."""
    return timing.result_in_own_process(_Run(num_workers, shard_s, rounds))


@dataclass(frozen=True)
class _Run:
    num_workers: int
    shard_s: float
    rounds: int

    def __call__(self) -> Figures:
        num_shards = self.num_workers * self.rounds
        with TemporaryDirectory() as name:
            work = planned(Path(name), num_shards)
            ray.init(num_cpus=self.num_workers, _memory=2**40, include_dashboard=False, logging_level="error")
            try:
                return self._drive(work, num_shards)
            finally:
                ray.shutdown()

    def _drive(self, work: Work, num_shards: int) -> Figures:
        workers = WaitingWorkers(work.paths, self.shard_s)
        this, others = psutil.Process(), ray_processes(but=workers.pid)
        started, own, rest = time.perf_counter(), time.process_time(), cpu_s(others)
        shown = Counter[ClipState]()
        driver = ShardDriver(work, Workers(self.num_workers), shown.update, print, workers)
        num_made = sum(1 for _ in driver.run())
        assert num_made == num_shards
        assert shown[ClipState.OK] == num_shards * large.SHARD_SIZE
        wall_s, own_s = time.perf_counter() - started, time.process_time() - own
        rest_s = cpu_s(ray_processes(but=workers.pid)) - rest
        peak_mib = this.memory_info().rss / 2**20
        return Figures(num_made / wall_s, 1000 * own_s / num_made, 1000 * rest_s / num_made, peak_mib)


class WaitingWorkers:
    """Stands for the remote function that makes a shard."""

    def __init__(self, paths: DatasetPaths, shard_s: float) -> None:
        self._actor = _WAITING.remote(paths, shard_s)
        self.pid: int = ray.get(self._actor.pid.remote())
        self.remote = self._actor.make.remote

    def options(self, memory: int) -> "WaitingWorkers":
        return self


class _Waiting:
    def __init__(self, paths: DatasetPaths, shard_s: float) -> None:
        self._paths, self._shard_s = paths, shard_s

    async def pid(self) -> int:
        return os.getpid()

    async def make(self, task: ShardTask, counter: Any) -> DoneRecord:
        ends = time.monotonic() + self._shard_s
        shard, num_clips = task.rows[0].shard, len(task.rows)
        while (left_s := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(REPORT_EVERY_S, left_s))
            done = int(num_clips * max(0.0, 1 - left_s / self._shard_s))
            counter.report.remote(shard, Counter({ClipState.OK: done}))
        record = finished_record(self._paths, shard)
        assert record is not None
        return record


_WAITING: Any = ray.remote(num_cpus=0, max_concurrency=2 * max(NUM_WORKERS))(_Waiting)


def ray_processes(but: int) -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one.pid != but]


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in processes)


if __name__ == "__main__":
    # Ray's processes import the actor from here; they have another __main__.
    from benchmarks import driver

    typer.run(driver.main)
