"""Joins a Ray cluster, or starts one on this machine, for as long as a preparation or an embedding needs it."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import ray

from cavsync.errors import CavsyncError

# Workers load this module: what only the driver needs is not loaded there.
if TYPE_CHECKING:
    from cavsync.pipeline.jobs.work import Workers

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


@contextmanager
def connected(workers: "Workers", worker_bytes: int, log: Callable[[str], None]) -> Iterator[None]:
    """Keeps Ray connected within the block, with room for a task of `worker_bytes`, and ends it afterwards.

    Logs a line when fewer tasks fit than `workers.number`. Raises ClusterError when none fits or no cluster answers.
    """
    ended = Event()
    _connect(workers, log, ended)
    try:
        _log_how_many(workers, worker_bytes, log)
        yield
    finally:
        ray.shutdown()
        ended.set()


def _connect(workers: "Workers", log: Callable[[str], None], ended: Event) -> None:
    init = partial(_in_thread, partial(ray.init, logging_level=logging.ERROR), ended)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise Ray 2.60 warns about a default of GPU workers that does not concern tasks without GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A host that loses power closes no connection, and Ray asks after five minutes whether the other end is there.
    os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", "30000")
    os.environ.setdefault("RAY_grpc_client_keepalive_timeout_ms", "60000")
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
        # Lines of other nodes would come on stdout, among the JSON lines of --json; they stay in Ray's logs.
        context = init(address=address, log_to_driver=False)
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


def _log_how_many(workers: "Workers", worker_bytes: int, log: Callable[[str], None]) -> None:
    room, scarce = room_for(worker_bytes)
    if room < 1:
        where = "here" if workers.ray_address is None else f"at {workers.ray_address}"
        raise ClusterError(f"the Ray cluster {where} has too few {scarce} for a worker.")
    if room < workers.number:
        log(f"{workers.number} workers were requested, there are {scarce} for {room}: running {room}.")


def room_for(worker_bytes: int) -> tuple[int, str]:
    """The number of tasks that fit into the cluster now, and the resource that limits it."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_cpus, num_memories = int(resources.get("CPU", 0)), int(resources.get("memory", 0) // worker_bytes)
    return min((num_cpus, "CPUs"), (num_memories, f"portions of {worker_bytes >> 20} MiB"))
