"""Shards as Ray tasks: the only module that imports Ray.

A task gets the rows of one shard and returns its done-record. Frames, sound and tars never pass through Ray.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from cavsync.pipeline.config import PrepareConfig
from cavsync.pipeline.errors import CavsyncError
from cavsync.pipeline.job import process_shard
from cavsync.pipeline.schema import ClipState
from cavsync.pipeline.shards import DatasetPaths

# Workers load this module: what only the driver needs is not loaded there.
if TYPE_CHECKING:
    from cavsync.pipeline.runner import OnClips, Record, Work, Workers

# A worker that dies takes its shard with it; the shard is tried this often again.
MAX_RETRIES = 2
# Native decoders may leak; a worker is replaced after so many shards.
SHARDS_PER_WORKER = 50
REPORT_EVERY_S = 0.5
# Nothing big passes through the object store; the default is 30 % of the machine's memory.
OBJECT_STORE_BYTES = 100 * 2**20


class ClusterError(CavsyncError):
    """The cluster could not be reached, or a shard kills every worker that tries it."""


def run_on_ray(
    work: "Work", workers: "Workers", on_clips: "OnClips", say: Callable[[str], None]
) -> Iterator["Record"]:
    """Make every shard of `work`, at most `workers.number` at a time; yields done-records as they come.

    Raises ClusterError, or what a task raised.
    """
    _connect(workers)
    try:
        yield from _drive(work, _slots(workers, say), on_clips)
    finally:
        ray.shutdown()


def _connect(workers: "Workers") -> None:
    init = partial(ray.init, logging_level=logging.ERROR, log_to_driver=False)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise Ray 2.60 warns about a default of GPU workers that does not concern tasks without GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if workers.ray_address is not None:
        try:
            init(address=workers.ray_address)
        except ConnectionError as error:
            raise ClusterError(f"no Ray cluster answers at {workers.ray_address}: {error}") from error
        return
    num_cpus = min(workers.number, len(os.sched_getaffinity(0)))
    init(num_cpus=num_cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES)


def _slots(workers: "Workers", say: Callable[[str], None]) -> int:
    """How many shards run at a time; `say` hears when that is fewer than asked for."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_cpus = int(resources.get("CPU", 0))
    if num_cpus < 1:
        raise ClusterError(f"the Ray cluster at {workers.ray_address} has no CPU for tasks.")
    if num_cpus < workers.number:
        say(f"{workers.number} workers were asked for, there are {num_cpus} CPUs: running {num_cpus}.")
    return min(workers.number, num_cpus)


def _drive(work: "Work", slots: int, on_clips: "OnClips") -> Iterator["Record"]:
    """Keep `slots` tasks in flight until every shard is made."""
    tally = _TALLY.remote()
    waiting = iter(work.spans.items())
    running: dict[Any, str] = {}
    progress = _Progress(on_clips)
    while True:
        while len(running) < slots and (shard := next(waiting, None)) is not None:
            name, span = shard
            running[_make_shard.remote(work.plan.rows(span), work.config, work.paths, tally)] = name
        if not running:
            return
        done, _ = ray.wait(list(running), timeout=REPORT_EVERY_S)
        for task in done:
            record = _result(task, running.pop(task))
            progress.finished(record)
            yield record
        progress.tell(ray.get(tally.states.remote()))


def _result(task: Any, shard: str) -> "Record":
    try:
        record: Record = ray.get(task)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise ClusterError(
            f"shard {shard} killed its worker {1 + MAX_RETRIES} times ({type(error).__name__}); finished shards "
            "are kept. Run again with --workers 1 to see at which clip."
        ) from error
    return record


class _Progress:
    """Turns what the workers report, cumulative for each shard, into increments."""

    def __init__(self, on_clips: "OnClips") -> None:
        self._on_clips = on_clips
        self._told: Counter[ClipState] = Counter()
        self._finished: dict[str, Counter[ClipState]] = {}

    def finished(self, record: "Record") -> None:
        self._finished[record["shard"]] = Counter(
            {ClipState(state): count for state, count in record["states"].items()}
        )

    def tell(self, reported: dict[str, Counter[ClipState]]) -> None:
        total = sum((reported | self._finished).values(), Counter[ClipState]())
        change = total.copy()
        change.subtract(self._told)  # may be negative: a worker died and its shard began again
        if any(change.values()):
            self._on_clips(change)
        self._told = total


class _Tally:
    """Where workers report and the driver asks."""

    def __init__(self) -> None:
        self._states: dict[str, Counter[ClipState]] = {}

    def report(self, shard: str, states: Counter[ClipState]) -> None:
        self._states[shard] = states

    def states(self) -> dict[str, Counter[ClipState]]:
        return self._states


_TALLY: Any = ray.remote(num_cpus=0)(_Tally)


# num_cpus=1 also makes Ray set OMP_NUM_THREADS=1, which OpenBLAS obeys.
@ray.remote(num_cpus=1, max_retries=MAX_RETRIES, max_calls=SHARDS_PER_WORKER)
def _make_shard(
    rows: list[dict[str, Any]], config: PrepareConfig, paths: DatasetPaths, tally: Any
) -> "Record":
    states: Counter[ClipState] = Counter()
    reported = time.monotonic()

    def on_clip(state: ClipState) -> None:
        nonlocal reported
        states[state] += 1
        if time.monotonic() - reported >= REPORT_EVERY_S:
            reported = time.monotonic()
            tally.report.remote(rows[0]["shard"], states)

    record: Record = process_shard(rows, config, paths, on_clip)
    return record
