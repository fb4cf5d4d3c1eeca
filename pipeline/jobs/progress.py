"""The progress of a run in `run.json` in the dataset's folder, which exists while the run does.

Done-records count whole shards; this file also counts the clips of unfinished shards, and their rate.
"""

import json
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.storage.atomic import temporary_name, write_atomically
from cavsync.pipeline.storage.filesystem import StoreError, retry_timeout
from cavsync.pipeline.storage.path import AnyPath, release

if TYPE_CHECKING:
    from cavsync.pipeline.dataset.schema import ClipState
    from cavsync.pipeline.plan.planner import Reporter

RECORD_NAME = "run.json"
UPDATE_EVERY_S, UPDATE_URL_EVERY_S = 2.0, 15.0
RATE_OVER_S = 60.0  # clips a second are those of the last minute


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Progress of a run, as it last reported."""

    pid: int
    host: str
    workers: int
    started: str  # ISO times
    updated: str
    num_clips: int  # planned clips, each retry of a clip counted again
    num_before: int  # finished by earlier runs
    states_before: Mapping[str, int]
    states: Mapping[str, int]  # of this run's clips
    clips_per_s: float | None  # None before the second report

    @property
    def num_done(self) -> int:
        return self.num_before + sum(self.states.values())

    def age_s(self) -> float:
        """Seconds since the last report of the run."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.updated)).total_seconds()


def read_record(root: AnyPath) -> RunRecord | None:
    """The last report of the run in `root`; None without one."""
    try:
        return RunRecord(**json.loads((root / RECORD_NAME).read_bytes()))
    except (FileNotFoundError, TypeError, ValueError):  # not there, or of another version
        return None


@contextmanager
def recorded(reporter: "Reporter", root: AnyPath, workers: int) -> Iterator["Reporter"]:
    """A reporter that also keeps `run.json` in `root`, and removes it at the end of the block."""
    recorder = _Recorder(reporter, root, workers)
    try:
        yield recorder
    finally:
        recorder.remove()


@dataclass
class _Rate:
    """Clips a second over the last minute; starts at the first clip, so that the start of workers does not count."""

    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def per_s(self, num_done: int) -> float | None:
        if num_done == 0:
            return None
        now = time.monotonic()
        self._samples.append((now, num_done))
        while now - self._samples[0][0] > RATE_OVER_S:
            self._samples.popleft()
        since, before = self._samples[0]
        return round((num_done - before) / (now - since), 3) if num_done > before else None


class _Recorder:
    """Passes all calls on to a reporter, and writes `run.json` every few seconds at most."""

    def __init__(self, reporter: "Reporter", root: AnyPath, workers: int) -> None:
        self._reporter, self._root, self._workers = reporter, root, workers
        self._every_s = UPDATE_EVERY_S if isinstance(root, Path) else UPDATE_URL_EVERY_S
        self._started = _now()
        self._states: Counter[str] = Counter()
        self._rate = _Rate()
        self._wrote = False

    def log(self, line: str) -> None:
        self._reporter.log(line)

    def start(self, num_clips: int, num_done: int) -> None:
        self._reporter.start(num_clips, num_done)
        if num_done == num_clips:
            return
        inventory = Inventory.read(self._root)
        self._num_clips = sum(inventory.planned.values())
        self._num_before = sum(record.num_rows for record in inventory.records.values())
        self._states_before, self._states = inventory.states(), Counter()
        self._write()

    def clips(self, states: "Mapping[ClipState, int]") -> None:
        self._reporter.clips(states)
        self._states.update({str(state): count for state, count in states.items()})
        if time.monotonic() - self._written_at >= self._every_s:
            self._write()

    def remove(self) -> None:
        # A run that found the folder locked has written nothing and removes nothing.
        if self._wrote:
            release(self._root / RECORD_NAME)

    def _write(self) -> None:
        record = RunRecord(
            pid=os.getpid(),
            host=socket.gethostname(),
            workers=self._workers,
            started=self._started,
            updated=_now(),
            num_clips=self._num_clips,
            num_before=self._num_before,
            states_before=dict(self._states_before),
            states=dict(+self._states),
            clips_per_s=self._rate.per_s(self._states.total()),
        )
        self._store(json.dumps(asdict(record)))
        self._wrote, self._written_at = True, time.monotonic()

    def _store(self, text: str) -> None:
        path = self._root / RECORD_NAME
        if isinstance(path, Path):
            # No fsync: no run survives a crash of the machine.
            partial = temporary_name(path)
            partial.write_text(text)
            partial.replace(path)
            return
        with retry_timeout(0.0), suppress(StoreError):  # a failed report ends no run
            write_atomically(path, text.encode())


def _now() -> str:
    return datetime.now(UTC).isoformat("T", "seconds")
