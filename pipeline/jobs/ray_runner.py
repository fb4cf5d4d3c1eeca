"""Runs shards, and files to embed, as Ray tasks. No other module imports Ray.

A task takes the plan rows of one shard and returns its done-record; frames, audio and tars never pass through Ray. The
task itself handles a clip that kills its decoder (decoding/process.py). When a worker or node dies, another worker
makes its shard again.
"""

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.done_record import DoneRecord, finished_record
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.decoding.process import MAX_DEATHS, DecoderProcess
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
# Nothing big passes through the object store; the default is 30 % of the machine's memory.
OBJECT_STORE_BYTES = 100 * 2**20
# A healthy cluster answers within a second or two.
ANSWER_S = 30.0
# The path of a socket has at most MAX_SOCKET_BYTES; Ray's have a session's name and a part like this one.
MAX_SOCKET_BYTES, DEFAULT_FOLDER = 107, "/tmp"
SOCKET_IN_SESSION = "/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"
_JOIN_PROGRAM = "import sys, ray; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False)"


class ClusterError(CavsyncError):
    """The cluster cannot be reached, does not share the target, or a shard lost its worker too often."""


def run_on_ray(
    work: "Work", workers: "Workers", on_clips: "OnClips", log: Callable[[str], None]
) -> Iterator[DoneRecord]:
    """Make every shard of `work`, at most `workers.number` at a time; yields done-records as they come.

    Raises ClusterError, or what a task raised.
    """
    with _connected(workers, log):
        _log_how_many(workers, log, _worker_bytes(work))
        yield from _Driver(work, workers, on_clips, log).run()


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
    with _connected(workers, log):
        _log_how_many(workers, log, worker_bytes)
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


@contextmanager
def _connected(workers: "Workers", log: Callable[[str], None]) -> Iterator[None]:
    ended = Event()
    _connect(workers, log, ended)
    try:
        yield
    finally:
        ray.shutdown()
        ended.set()


def _connect(workers: "Workers", log: Callable[[str], None], ended: Event) -> None:
    init = partial(_in_thread, partial(ray.init, logging_level=logging.ERROR), ended)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise Ray 2.60 warns about a default of GPU workers that does not concern tasks without GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if workers.ray_address is None:
        num_cpus = min(workers.number, len(os.sched_getaffinity(0)))
        # "local", or Ray would join any cluster that it finds on this machine. A dashboard of its own costs memory
        # and seconds, and shows no more than the progress bar.
        start = partial(init, "local", num_cpus=num_cpus, include_dashboard=False)
        folder = _temporary_folder()
        try:
            start(object_store_memory=OBJECT_STORE_BYTES, _temp_dir=folder)
        except (
            Exception
        ) as error:  # Ray raises plain ones, such as where a busy machine keeps it from starting in time
            raise ClusterError(
                f"Ray does not start on this machine: {error} Repeat the command when the machine is less busy, or run "
                "with --workers 1."
            ) from error
    else:
        _join(init, workers.ray_address, log)


def _temporary_folder() -> str | None:
    """Where Ray keeps its session; None for its own choice, below $RAY_TMPDIR or $TMPDIR.

    Raises ClusterError where neither that path nor one in /tmp is short enough and writable.
    """
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or DEFAULT_FOLDER
    if len(os.fsencode(f"{chosen}/ray{SOCKET_IN_SESSION}")) <= MAX_SOCKET_BYTES:
        return None
    for folder in (f"{DEFAULT_FOLDER}/ray", f"{DEFAULT_FOLDER}/ray-{os.getuid()}"):
        if os.access(folder if os.path.exists(folder) else DEFAULT_FOLDER, os.W_OK | os.X_OK):
            return folder
    longest = MAX_SOCKET_BYTES - len(f"/ray{SOCKET_IN_SESSION}")
    raise ClusterError(
        f"Ray cannot put its sockets below {chosen}, whose path is too long, nor in {DEFAULT_FOLDER}, which is not "
        f"writable. Set RAY_TMPDIR to a writable folder with a path of at most {longest} bytes, or run with --workers 1."
    )


def _in_thread(init: Callable[..., Any], ended: Event, *arguments: Any, **options: Any) -> Any:
    """Call `init` in a thread and return its result: it blocks for seconds in native code, which would delay Ctrl-C, and
    in the main thread it would replace the handler of SIGTERM.

    The thread stays until `ended`, because Ray's processes end with the thread that started them.
    """
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(init(*arguments, **options))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.set_exception(error)
        ended.wait()

    Thread(target=run, daemon=True).start()
    return outcome.result()


def _join(init: Callable[..., Any], address: str, log: Callable[[str], None]) -> None:
    _require_answer(address)
    try:
        context = init(address=address)
    except ConnectionError as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    if context.dashboard_url:
        log(f"Ray's dashboard: http://{context.dashboard_url}")


def _require_answer(address: str) -> None:
    """Raises ClusterError where no cluster answers. Ray would block for many minutes, even in a thread without Ctrl-C, so
    a separate process tries to join first.
    """
    command = [sys.executable, "-c", _JOIN_PROGRAM, address]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"no Ray cluster answers at {address} within {ANSWER_S:g} s. Give its head's HOST:PORT (6379 if none was "
            "chosen), or auto on one of its nodes."
        ) from None
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip().splitlines()[-1:]
        raise ClusterError(f"the Ray cluster at {address} cannot be joined: {' '.join(why)}") from None


def _log_how_many(workers: "Workers", log: Callable[[str], None], worker_bytes: int) -> None:
    """Log a line when fewer tasks fit than requested. Raises ClusterError when none fits."""
    room, scarce = _room(worker_bytes)
    if room < 1:
        where = "here" if workers.ray_address is None else f"at {workers.ray_address}"
        raise ClusterError(f"the Ray cluster {where} has too few {scarce} for a worker.")
    if room < workers.number:
        log(f"{workers.number} workers were requested, there are {scarce} for {room}: running {room}.")


def _room(worker_bytes: int) -> tuple[int, str]:
    """The number of workers that fit into the cluster now, and the resource that limits it."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_cpus, num_memories = int(resources.get("CPU", 0)), int(resources.get("memory", 0) // worker_bytes)
    return min((num_cpus, "CPUs"), (num_memories, f"portions of {worker_bytes >> 20} MiB"))


def _worker_bytes(work: "Work") -> int:
    uses_store = isinstance(work.paths.root, RemotePath) or isinstance(work.videos, RemotePath)
    return STORE_WORKER_BYTES if uses_store else WORKER_BYTES


class _Driver:
    """Keeps a bounded number of tasks in flight until every shard is made."""

    def __init__(
        self, work: "Work", workers: "Workers", on_clips: "OnClips", log: Callable[[str], None]
    ) -> None:
        # Another machine has another working folder.
        self._work = replace(work, paths=replace(work.paths, root=work.paths.root.absolute()))
        self._most, self._log = workers.number, log
        self._counter = _STATE_COUNTER.remote()
        self._progress = _Progress(on_clips)
        self._running: dict[Any, ShardTask] = {}
        self._lost: Counter[str] = Counter()

    def run(self) -> Iterator[DoneRecord]:
        waiting = self._work.tasks()
        while True:
            slots = min(
                self._most, max(1, _room(_worker_bytes(self._work))[0])
            )  # a cluster grows and shrinks
            while len(self._running) < slots and (task := next(waiting, None)) is not None:
                self._start(task)
            if not self._running:
                return
            done, _ = ray.wait(list(self._running), timeout=REPORT_EVERY_S)
            for reference in done:
                yield from self._finished(reference)
            self._progress.update(ray.get(self._counter.states.remote()))

    def _start(self, task: ShardTask) -> None:
        make = _make_shard.options(memory=_worker_bytes(self._work))
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
        self._finished: dict[str, Counter[ClipState]] = {}

    def finished(self, record: DoneRecord) -> None:
        self._finished[record.shard] = Counter(
            {ClipState(state): count for state, count in record.states.items()}
        )

    def update(self, counts: dict[str, Counter[ClipState]]) -> None:
        total = sum((counts | self._finished).values(), Counter[ClipState]())
        change = total.copy()
        change.subtract(self._reported)  # may be negative: a worker died and its shard began again
        if any(change.values()):
            self._on_clips(change)
        self._reported = total


class _StateCounter:
    """Collects the counts that workers report, for the driver to read."""

    def __init__(self) -> None:
        self._states: dict[str, Counter[ClipState]] = {}

    def report(self, shard: str, states: Counter[ClipState]) -> None:
        self._states[shard] = states

    def states(self) -> dict[str, Counter[ClipState]]:
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
