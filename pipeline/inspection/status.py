"""The progress of a dataset, from its done-records and from the run that works on it, if there is one."""

import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cavsync.pipeline.dataset.done_record import total_notes
from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.jobs.progress import RunRecord, read_record
from cavsync.pipeline.storage.lock import LOCK_NAME, is_running, read_holder
from cavsync.pipeline.storage.path import AnyPath

# A clip may take two minutes before it ends as timeout, and a run reports when a clip ends.
SILENT_AFTER_S = 300.0

# A run on another host is known only by its last report.
RunnerState = Literal["running", "silent", "dead"]


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The run that holds the dataset's lock."""

    pid: int
    host: str
    since: str
    state: RunnerState
    last_update_s: float | None  # seconds since its last update of run.json; None before the first
    workers: int | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """Progress of a dataset; a clip counts once for each try."""

    root: AnyPath
    num_shards: int
    num_shards_done: int
    num_clips: int
    num_clips_done: int
    states: Mapping[str, int]
    num_bytes: int  # of the tars of finished shards
    audio_bytes: int  # of them, of kept audio
    notes: Mapping[str, int]  # on clips in state ok, of finished shards
    runner: Runner | None
    clips_per_s: float | None
    worker_seconds: float  # wall clock of all workers on finished shards

    @property
    def is_finished(self) -> bool:
        return self.num_shards_done == self.num_shards

    @property
    def eta_s(self) -> float | None:
        if not self.clips_per_s or self.is_finished:
            return None
        return (self.num_clips - self.num_clips_done) / self.clips_per_s


def read_status(root: AnyPath) -> Status:
    """Raises InventoryError for a folder that is no dataset."""
    return status_of(Inventory.read(root))


def status_of(inventory: Inventory) -> Status:
    root = inventory.paths.root
    record, holder = read_record(root), read_holder(root / LOCK_NAME)
    runner = None if holder is None else _runner(holder, record)
    is_live = runner is not None and runner.state == "running" and runner.last_update_s is not None
    live = record if is_live else None
    states = inventory.states()
    num_done = sum(one.num_rows for one in inventory.records.values())
    if live is not None:
        # The run also counts clips of unfinished shards; its last report may be older than the newest done-record.
        num_done = max(num_done, live.num_done)
        states = max(states, Counter(live.states_before) + Counter(live.states), key=Counter.total)
    return Status(
        root=root,
        num_shards=len(inventory.planned),
        num_shards_done=len(inventory.records),
        num_clips=sum(inventory.planned.values()),
        num_clips_done=num_done,
        states=dict(states.most_common()),
        num_bytes=sum(one.tar_bytes for one in inventory.records.values()),
        audio_bytes=sum(one.audio_bytes for one in inventory.records.values()),
        notes=total_notes(inventory.records.values()),
        runner=runner,
        clips_per_s=live.clips_per_s if live else None,
        worker_seconds=round(sum(one.seconds for one in inventory.records.values()), 1),
    )


def _runner(holder: Mapping[str, Any], record: RunRecord | None) -> Runner:
    own = record is not None and (record.pid, record.host) == (holder["pid"], holder["host"])
    last_update_s = record.age_s() if record is not None and own else None
    return Runner(
        pid=holder["pid"],
        host=holder["host"],
        since=holder["since"],
        state=_runner_state(holder, last_update_s),
        last_update_s=last_update_s,
        workers=record.workers if record is not None and own else None,
    )


def _runner_state(holder: Mapping[str, Any], last_update_s: float | None) -> RunnerState:
    if holder["host"] == socket.gethostname():
        return "running" if is_running(dict(holder)) else "dead"
    return "silent" if last_update_s is not None and last_update_s > SILENT_AFTER_S else "running"
