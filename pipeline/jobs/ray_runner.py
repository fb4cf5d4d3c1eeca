"""Runs shards, and files to embed, as Ray tasks. Only this module and ray_cluster.py import Ray.

A task takes the plan rows of one shard and returns its done-record; frames, audio and tars never pass through Ray. The
task itself handles a clip that kills its decoder (decoding/process.py). When a worker or node dies, another worker
makes its shard again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from cavsync.pipeline.dataset.done_record import DoneRecord, finished_record
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.decoding.process import MAX_DEATHS, DecoderProcess
from cavsync.pipeline.jobs.ray_cluster import ClusterError, connected, room_for
from cavsync.pipeline.jobs.shard import ShardTask, process_shard
from cavsync.pipeline.storage.remote_path import RemotePath

# Workers load this module: what only the driver needs is not loaded there.
if TYPE_CHECKING:
    from cavsync.pipeline.jobs.work import OnClips, Work, Workers

# Tries of a shard whose worker or node is lost.
MAX_TRIES = 5
# Memory of a worker and its decoder; Ray places no more tasks on a node than fit into its memory.
WORKER_BYTES = 200 * 2**20
# The same where they read from or write to a store: its library and the blocks of files are in both.
STORE_WORKER_BYTES = 300 * 2**20
# A worker is replaced after this many shards, because native libraries may leak.
SHARDS_PER_WORKER = 50
REPORT_EVERY_S = 0.5


def run_on_ray(
    work: "Work", workers: "Workers", on_clips: "OnClips", log: Callable[[str], None]
) -> Iterator[DoneRecord]:
    """Make every shard of `work`, at most `workers.number` at a time; yields done-records as they come.

    Raises ClusterError, or what a task raised.
    """
    with connected(workers, _worker_bytes(work), log):
        yield from ShardDriver(work, workers, on_clips, log, _make_shard).run()


def map_on_ray(
    call: Callable[[Any], Any],
    items: Iterable[Any],
    workers: "Workers",
    worker_bytes: int,
    log: Callable[[str], None],
    num_gpus: float = 0.0,
) -> Iterator[tuple[Any, Any]]:
    """`(item, call(item))` as they come, `workers.number` at a time; `call` is pickled.

    Raises what `call` raised. The result of an item whose worker died MAX_DEATHS times is None.
    """
    with connected(workers, worker_bytes, log):
        task = ray.remote(num_cpus=1, num_gpus=num_gpus, memory=worker_bytes, max_retries=0)(_call)
        shared, waiting, lost = ray.put(call), iter(items), Counter[Any]()
        running: dict[Any, Any] = {}
        while True:
            while len(running) < workers.number and (item := next(waiting, None)) is not None:
                running[task.remote(shared, item)] = item
            if not running:
                return
            (reference,), _ = ray.wait(list(running))
            item = running.pop(reference)
            try:
                yield item, ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except _LOST:
                lost[item] += 1
                if lost[item] == MAX_DEATHS:
                    yield item, None
                else:
                    running[task.remote(shared, item)] = item


def _call(call: Callable[[Any], Any], item: Any) -> Any:
    return call(item)


def _worker_bytes(work: "Work") -> int:
    uses_store = isinstance(work.paths.root, RemotePath) or isinstance(work.videos, RemotePath)
    return STORE_WORKER_BYTES if uses_store else WORKER_BYTES


class ShardDriver:
    """Keeps a bounded number of tasks in flight until every shard is made."""

    def __init__(
        self, work: "Work", workers: "Workers", on_clips: "OnClips", log: Callable[[str], None], make: Any
    ) -> None:
        """`make` is the remote function of a task and of the actor that counts states."""
        # Another machine has another working folder.
        self._work = replace(work, paths=replace(work.paths, root=work.paths.root.absolute()))
        self._most, self._log, self._make = workers.number, log, make
        self._counter = _STATE_COUNTER.remote()
        self._progress = _Progress(on_clips)
        self._running: dict[Any, ShardTask] = {}
        self._lost: Counter[str] = Counter()

    def run(self) -> Iterator[DoneRecord]:
        waiting = self._work.tasks()
        while True:
            slots = min(
                self._most, max(1, room_for(_worker_bytes(self._work))[0])
            )  # a cluster grows and shrinks
            while len(self._running) < slots and (task := next(waiting, None)) is not None:
                self._start(task)
            if not self._running:
                self._progress.update({})
                return
            for reference in self._ended():
                yield from self._finished(reference)
            if self._progress.is_due():
                shards = [task.rows[0].shard for task in self._running.values()]
                self._progress.update(ray.get(self._counter.states.remote(shards)))

    def _ended(self) -> list[Any]:
        """The tasks that have ended, all of them; waits for the first as long as the progress need not be shown."""
        first, others = ray.wait(list(self._running), timeout=REPORT_EVERY_S)
        more = ray.wait(others, num_returns=len(others), timeout=0)[0] if first and others else []
        return [*first, *more]

    def _start(self, task: ShardTask) -> None:
        make = self._make.options(memory=_worker_bytes(self._work))
        self._running[make.remote(task, self._counter)] = task

    def _finished(self, reference: Any) -> Iterator[DoneRecord]:
        """The record of an ended task; nothing when its worker was lost and the task starts again."""
        task = self._running.pop(reference)
        try:
            record: DoneRecord = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # the task's own error
        except _LOST as error:
            self._start_again(task, error)
            return
        if not isinstance(self._work.paths.root, RemotePath):  # a store is one for all
            self._require_shared_target(record)
        self._progress.finished(record)
        yield record

    def _start_again(self, task: ShardTask, error: Exception) -> None:
        shard = task.rows[0].shard
        self._lost[shard] += 1
        why = type(error).__name__
        if self._lost[shard] == MAX_TRIES:
            raise ClusterError(
                f"shard {shard} lost its worker {MAX_TRIES} times, at last by {why}; finished shards are kept. "
                "Where memory is short, run fewer --workers."
            ) from error
        self._log(f"The worker of shard {shard} was lost ({why}); making it again.")
        self._start(task)

    def _require_shared_target(self, record: DoneRecord) -> None:
        if finished_record(self._work.paths, record.shard) is None:
            raise ClusterError(
                f"shard {record.shard} was written on another machine, and {self._work.paths.root} there is not "
                "the folder of this machine; a cluster needs a target that all its nodes share."
            )


# Errors of a task whose worker was killed (by the kernel or by Ray, for memory) or whose node is gone. Ray's own
# retries are off: for memory they would never end.
_LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)


class _Progress:
    """Turns the workers' cumulative counts for each shard into increments."""

    def __init__(self, on_clips: "OnClips") -> None:
        self._on_clips = on_clips
        self._reported: Counter[ClipState] = Counter()
        self._finished: Counter[ClipState] = Counter()
        self._updated = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._updated >= REPORT_EVERY_S

    def finished(self, record: DoneRecord) -> None:
        self._finished.update({ClipState(state): count for state, count in record.states.items()})

    def update(self, running: dict[str, Counter[ClipState]]) -> None:
        """Reports the clips of finished shards and those of the `running` ones."""
        total = sum(running.values(), self._finished.copy())
        change = total.copy()
        change.subtract(self._reported)  # may be negative: a worker died and its shard began again
        if any(change.values()):
            self._on_clips(change)
        self._reported, self._updated = total, time.monotonic()


class _StateCounter:
    """Collects the counts that workers report, for the driver to read."""

    def __init__(self) -> None:
        self._states: dict[str, Counter[ClipState]] = {}

    def report(self, shard: str, states: Counter[ClipState]) -> None:
        self._states[shard] = states

    def states(self, shards: list[str]) -> dict[str, Counter[ClipState]]:
        """The counts of `shards`, those that run; the others are forgotten, also what a worker reported last."""
        self._states = {shard: self._states[shard] for shard in shards if shard in self._states}
        return self._states


# It restarts on another node when its own is lost; counts of unfinished shards are lost then.
_STATE_COUNTER: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_StateCounter)


@cache
def _decoder() -> DecoderProcess:
    """The worker's decoder, for all its shards; it ends with the worker."""
    return DecoderProcess()


# num_cpus=1 also makes Ray set OMP_NUM_THREADS=1, which OpenBLAS obeys.
@ray.remote(num_cpus=1, max_retries=0, max_calls=SHARDS_PER_WORKER)
def _make_shard(task: ShardTask, counter: Any) -> DoneRecord:
    states: Counter[ClipState] = Counter()
    reported = time.monotonic()

    def on_clip(state: ClipState) -> None:
        nonlocal reported
        states[state] += 1
        if time.monotonic() - reported >= REPORT_EVERY_S:
            reported = time.monotonic()
            counter.report.remote(task.rows[0].shard, states)

    record: DoneRecord = process_shard(task, _decoder(), on_clip)
    return record
