"""The processes that load batches: the shared memory that they hand them over in, and how the end of one is reported.

A batch stays in shared memory, /dev/shm on Linux, from its making until the training has taken it. Containers have
little of it: 64 MB by Docker's default.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch

from cavsync.errors import CavsyncError

SHARED_MEMORY = Path("/dev/shm")
# Batches that each process makes ahead: torch's default.
AHEAD = 2
# Batches that were taken and not yet released: the one of the step, and the next that is copied beside it.
TAKEN = 2
# Of the errors that torch raises in the main process, wherever it is, when one of the loader's ends.
DEAD_WORKER = "DataLoader worker"
# Between the end of a process and its signal.
SIGNAL_S = 1.0


class LoaderProcessError(CavsyncError):
    """A process that loads batches ended, or has no room to hand them over."""


@dataclass(frozen=True)
class HandedOver:
    """The batches of `num_workers` processes in each of `num_ranks` runs on this machine."""

    batch_bytes: int
    num_workers: int
    num_ranks: int = 1

    def bytes_at_once(self, ahead: int) -> int:
        """Shared memory that is in use at once where each process makes `ahead` batches ahead."""
        return self.num_ranks * (self.num_workers * ahead + TAKEN) * self.batch_bytes

    def ahead(self, free_bytes: int) -> int:
        """How many batches each process makes ahead: as many as fit into `free_bytes`, two at the most.

        LoaderProcessError, with what is needed, where there is no room for one of each.
        """
        for ahead in range(AHEAD, 0, -1):
            if self.bytes_at_once(ahead) <= free_bytes:
                return ahead
        fitting = free_bytes // self.num_ranks // self.batch_bytes - TAKEN
        fewer = f"--num-workers {max(0, fitting)}" + ("" if fitting > 0 else ", which needs none")
        needed = self.bytes_at_once(AHEAD)
        raise LoaderProcessError(
            f"Shared memory: {self.num_workers} processes that load data need {_megabytes(self.bytes_at_once(1))}, better "
            f"{_megabytes(needed)}, for batches of {_megabytes(self.batch_bytes)}, and {SHARED_MEMORY} has "
            f"{_megabytes(free_bytes)} free. Give it more (docker run --ipc=host, or --shm-size={_gigabytes(needed)}g; "
            f"shm_size in a compose file), or load with fewer processes: {fewer}."
        )


def batches_ahead(batch_bytes: int, num_workers: int) -> int | None:
    """How many batches each of `num_workers` processes makes ahead; None where there are no processes.

    LoaderProcessError, before anything is started, where shared memory has no room for them.
    """
    if num_workers == 0:
        return None
    _reasons()  # here, so that the processes inherit it
    if not SHARED_MEMORY.is_dir():
        return AHEAD
    room = os.statvfs(SHARED_MEMORY)
    num_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return HandedOver(batch_bytes, num_workers, num_ranks).ahead(room.f_bavail * room.f_frsize)


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in `value`, a batch of any nesting."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(tensor_bytes, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return sum(map(tensor_bytes, value))
    return 0


def end_when_a_batch_is_lost() -> None:
    """For a new process of the loader: a batch that cannot be handed over ends it.

    Without this the batch is dropped after a traceback, and the training waits for it forever.
    """
    Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


@contextmanager
def dead_workers_explained() -> Iterator[None]:
    """LoaderProcessError, with the reason where it is known, for what torch raises when a process of the loader ends."""
    try:
        with _signal_awaited():
            yield
    except RuntimeError as error:
        if DEAD_WORKER not in str(error):
            raise
        reason = _forgotten(error)
        raise LoaderProcessError(
            f"A process that loads data ended: {reason}. Where memory ran out, lower --num-workers; where shared memory "
            "did, give it more (docker run --ipc=host, or --shm-size; shm_size in a compose file). The run goes on "
            "from its last checkpoint with --resume."
        ) from None


@contextmanager
def _signal_awaited() -> Iterator[None]:
    """Where a process is gone before its batch was fetched, torch raises how it ended when its signal comes."""
    try:
        yield
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        if str(error).startswith("Caught "):  # in the work of a process, which goes on
            raise
        time.sleep(SIGNAL_S)
        raise RuntimeError(f"{DEAD_WORKER} ended before its batch was fetched") from error


def _forgotten(error: BaseException) -> str:
    """The reason in `error` and its causes, whose frames are dropped: they hold the loader, which would report the same
    process again and keep the others."""
    reasons: list[str] = []
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        reasons.append(str(one).partition("\n")[0].strip(" ."))
        one = one.__cause__ or one.__context__
    if not _reasons().empty():
        return _reasons().get()
    return next((reason for reason in reasons if "signal" in reason), reasons[0])


def _end_worker(error: Exception, batch: object) -> None:
    """Called by the thread that hands a batch over, with what kept it from that."""
    _reasons().put(str(error).partition("\n")[0].rstrip("."))
    os._exit(1)


@cache
def _reasons() -> "multiprocessing.SimpleQueue[str]":
    """What ended a process of the loader; made before the processes, which inherit it."""
    return multiprocessing.get_context("fork").SimpleQueue()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _gigabytes(size: int) -> int:
    """Rounded up."""
    return -(-size // 2**30)
