"""How far a dataset is: from its done-records, and from the run that goes on in it, if one does."""

import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cavsync.pipeline.dataset.inventory import Inventory
from cavsync.pipeline.jobs.progress import RunRecord, read_record
from cavsync.pipeline.storage.lock import LOCK_NAME, lives, read_holder
from cavsync.pipeline.storage.path import AnyPath

# A clip may take two minutes before it ends as timeout, and a run tells of itself when a clip ends.
SILENT_AFTER_S = 300.0

# A run on another host can be judged only by what was last heard of it.
Life = Literal["running", "silent", "dead"]


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Who holds the dataset's lock."""

    pid: int
    host: str
    since: str
    life: Life
    heard_s: float | None  # how long ago it told of itself; None when it has not yet
    workers: int | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """A dataset's progress; clips are counted once for each try."""

    root: AnyPath
    num_shards: int
    num_shards_done: int
    num_clips: int
    num_clips_done: int
    states: Mapping[str, int]
    runner: Runner | None
    clips_per_s: float | None
    worker_seconds: float  # spent on the finished shards

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
    inventory = Inventory.read(root)
    record, holder = read_record(root), read_holder(root / LOCK_NAME)
    runner = None if holder is None else _runner(holder, record)
    is_live = runner is not None and runner.life == "running" and runner.heard_s is not None
    live = record if is_live else None
    states = inventory.states()
    num_done = sum(one.num_rows for one in inventory.records.values())
    if live is not None:
        # The run counts the clips of shards in work too; its last word may be older than the newest done-record.
        num_done = max(num_done, live.num_done)
        states = max(states, Counter(live.states_before) + Counter(live.states), key=Counter.total)
    return Status(
        root=root,
        num_shards=len(inventory.planned),
        num_shards_done=len(inventory.records),
        num_clips=sum(inventory.planned.values()),
        num_clips_done=num_done,
        states=dict(states.most_common()),
        runner=runner,
        clips_per_s=live.clips_per_s if live else None,
        worker_seconds=round(sum(one.seconds for one in inventory.records.values()), 1),
    )


def _runner(holder: Mapping[str, Any], record: RunRecord | None) -> Runner:
    own = record is not None and (record.pid, record.host) == (holder["pid"], holder["host"])
    heard_s = record.age_s() if record is not None and own else None
    return Runner(
        pid=holder["pid"],
        host=holder["host"],
        since=holder["since"],
        life=_life(holder, heard_s),
        heard_s=heard_s,
        workers=record.workers if record is not None and own else None,
    )


def _life(holder: Mapping[str, Any], heard_s: float | None) -> Life:
    if holder["host"] == socket.gethostname():
        return "running" if lives(dict(holder)) else "dead"
    return "silent" if heard_s is not None and heard_s > SILENT_AFTER_S else "running"
