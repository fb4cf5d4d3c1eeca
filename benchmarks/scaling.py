"""What a second worker brings, and what Ray costs, once they are at work.

    python -m benchmarks.scaling [--clip FILE] [--rounds N]

Every shard holds one clip some times, so all cost the same. A rate is taken from the moment every worker has
finished its first shard: starting Ray and its workers is not in it. Other work on the machine spoils it.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import typer

from benchmarks.support import clips as sample_clips
from benchmarks.support import results, timing
from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.done_record import DoneRecord
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.decoding.process import WORKER_MODULE
from cavsync.pipeline.jobs.ray_runner import run_on_ray
from cavsync.pipeline.jobs.runner import run
from cavsync.pipeline.jobs.work import Work, Workers
from cavsync.pipeline.lists.folder import folder_listing
from cavsync.pipeline.plan.plan import Plan, make_plan

NUM_SHARDS, CLIPS_A_SHARD = 16, 4
INLINE, ONE, TWO = "without Ray", "Ray, 1 worker", "Ray, 2 workers"
NUM_WORKERS = {INLINE: 1, ONE: 1, TWO: 2}
DECODER, WORKER = "a decoder's process", "its Ray worker's process"
Rates = dict[str, list[float]]
Memories = dict[str, list[float]]


def main(clip: Path | None = None, rounds: int = 2) -> None:
    rates: Rates = {name: [] for name in NUM_WORKERS}
    memories: Memories = {DECODER: [], WORKER: []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        plan = equal_shards(clip or sample_clips.synthesised() / "medium-2.mp4", folder / "clips")
        for number in range(rounds):
            for what, series in rates.items():
                out = folder / f"{number} {what}"
                series.append(clips_per_s(plan, what, out, memories))
    results.publish("scaling", f"Preparing on {psutil.cpu_count()} cores", _rows(rates, memories))


def equal_shards(clip: Path, folder: Path) -> Plan:
    sample_clips.link(clip, folder, NUM_SHARDS * CLIPS_A_SHARD)
    listing = folder_listing(folder)
    return Plan(make_plan(listing.clips({}), listing.tree(), "whole", CLIPS_A_SHARD, seed=0), {})


def clips_per_s(plan: Plan, what: str, out: Path, memories: Memories) -> float:
    """The steady rate; `memories` gets what a worker holds at the end of each shard."""
    workers = NUM_WORKERS[what]
    work = Work(plan, plan.shards(), PrepareConfig(), DatasetPaths(out), ArchiveSet(out))
    finished_at: list[float] = []
    for _ in _records(work, what):
        finished_at.append(time.perf_counter())
        if what != INLINE:
            _weigh_a_worker(memories)
    assert len(finished_at) == NUM_SHARDS, f"{len(finished_at)} of {NUM_SHARDS} shards were made"
    return (NUM_SHARDS - workers) * CLIPS_A_SHARD / (finished_at[-1] - finished_at[workers - 1])


def _records(work: Work, what: str) -> Iterator[DoneRecord]:
    workers = Workers(NUM_WORKERS[what])
    start = run if what == INLINE else run_on_ray
    return start(work, workers, lambda states: None, print)


def _weigh_a_worker(memories: Memories) -> None:
    """What a worker's two processes hold; memory that is shared with others is divided among them."""
    processes = psutil.Process().children(recursive=True)
    decoder = next(one for one in processes if WORKER_MODULE in one.cmdline())
    for name, process in ((DECODER, decoder), (WORKER, decoder.parent())):
        memories[name].append(process.memory_full_info().pss / 2**20)


def _rows(rates: Rates, memories: Memories) -> list[results.Row]:
    def row(what: str, to: str, aim: str) -> results.Row:
        ratio = timing.ratio(rates[what], rates[to])
        return results.Row(what=what, values=rates[what], unit="clips/s", ratio=ratio, to=to, aim=aim)

    return [
        row(INLINE, INLINE, ""),
        row(ONE, INLINE, ">= 0.95"),
        row(TWO, ONE, ">= 1.85"),
        *(results.Row(what=name, values=mib, unit="MiB", aim="<= 150") for name, mib in memories.items()),
    ]


if __name__ == "__main__":
    typer.run(main)
