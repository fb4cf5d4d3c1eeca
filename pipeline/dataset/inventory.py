"""The state of a dataset's folder, finished or not: planned shards, done-records, and the index rows of their clips."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count, islice, takewhile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.done_record import DoneRecord, finished_record, latest_states
from cavsync.pipeline.dataset.index_row import IndexRow, index_rows, read_index
from cavsync.pipeline.dataset.paths import DatasetPaths, is_retry, moved_path, split_of
from cavsync.pipeline.dataset.plan_row import MOVED_FROM, VIDEOS, read_plan, read_plan_inputs
from cavsync.pipeline.dataset.schema import SCHEMA_VERSION, ClipState
from cavsync.pipeline.storage.lock import LOCK_NAME
from cavsync.pipeline.storage.path import AnyPath, each


class InventoryError(CavsyncError):
    """A folder is no dataset, or cannot be read; the message names the way out."""


@dataclass(frozen=True)
class Inventory:
    """Planned and finished shards of a dataset at one moment; a run may be working on it."""

    paths: DatasetPaths
    planned: Mapping[str, int]  # shard -> number of listed clips; retries follow the shards they retry
    records: Mapping[str, DoneRecord]  # shard -> done-record, of finished shards
    summary: Mapping[str, Any] | None  # dataset.json, written when the last shard is finished

    @classmethod
    def read(cls, root: AnyPath) -> "Inventory":
        """Raises InventoryError where nothing was planned, or with another schema version."""
        paths = DatasetPaths(root)
        _require_plan(paths)
        summary = read_json(paths.summary) if paths.summary.is_file() else None
        planned = {name: size for plan in plan_files(paths) for name, size in _shard_sizes(plan).items()}
        found = zip(planned, each(partial(finished_record, paths), planned, root), strict=True)
        records = {name: record for name, record in found if record is not None}
        if summary is not None:
            _require_version(root, summary.get("schema_version"))
        for record in islice(records.values(), 1):
            _require_version(root, record.schema_version)
        return cls(paths, planned, records, summary)

    @property
    def name(self) -> str:
        return str(plan_inputs(self.paths)["dataset"])

    @property
    def num_listed(self) -> int:
        """Clips of the lists, each counted once."""
        return sum(size for shard, size in self.planned.items() if not is_retry(shard))

    @property
    def unfinished(self) -> list[str]:
        return [shard for shard in self.planned if shard not in self.records]

    @property
    def finished_share(self) -> str:
        """A phrase for messages: how many shards are finished."""
        if not self.unfinished:
            return "all shards are finished"
        return f"{len(self.records):,} of {len(self.planned):,} shards are finished"

    @property
    def label_names(self) -> Mapping[str, str]:
        """Label -> display name, in class order; empty until the dataset is finished."""
        if not self.summary:
            return {}
        return dict(zip(self.summary["labels"], self.summary["label_names"], strict=True))

    def states(self, shards: Iterable[str] | None = None) -> Counter[str]:
        """Number of clips of `shards` (default: all finished ones) by state; the latest try of a clip counts."""
        return latest_states(self.records[shard] for shard in (self.records if shards is None else shards))

    def roles(self) -> Mapping[str, str]:
        """Split -> "train" or "test"; in an unfinished dataset, split -> the same split."""
        if self.summary:
            roles: Mapping[str, str] = self.summary["splits"]
            return roles
        return {split: split for split in map(split_of, self.planned)}

    def rows(self, shard: str) -> list[IndexRow]:
        """The index rows of a finished shard, without those that a retry has replaced."""
        table = with_moved_sources(read_index(self.paths, shard), self.paths)
        rows = index_rows(table.append_column("shard", pa.repeat(shard, len(table))))
        return [row for row in rows if self.is_latest(row.key, row.state, row.shard)]

    def shards_of(self, split: str | None) -> Iterator[str]:
        """Finished shards; raises InventoryError for a split that is not planned."""
        splits = sorted(set(map(split_of, self.planned)))
        if split is not None and split not in splits:
            raise InventoryError(f"{self.paths.root} has no split {split!r}; it has: {', '.join(splits)}.")
        return (shard for shard in self.records if split in (None, split_of(shard)))

    def is_latest(self, key: str, state: str, shard: str) -> bool:
        """Whether the row of a key in a shard is its latest try."""
        # A duplicate row keeps its state whatever happens to the first row of its key.
        return state == ClipState.DUPLICATE or self._retried.get(key, shard) == shard

    @cached_property
    def _retried(self) -> dict[str, str]:
        """Key -> shard of its last finished try, for clips that were tried again."""
        retried: dict[str, str] = {}
        for plan in plan_files(self.paths)[1:]:
            table = read_plan(plan, ["key", "shard"])
            pairs = zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True)
            retried.update((key, shard) for key, shard in pairs if shard in self.records)
        return retried


def plan_files(paths: DatasetPaths) -> list[AnyPath]:
    """The plan, then that of each round of retries."""
    return [paths.plan, *takewhile(lambda plan: plan.is_file(), map(paths.retry_plan, count(1)))]


def plan_inputs(paths: DatasetPaths) -> dict[str, Any]:
    """What the plan was made from: the dataset's name, its lists, and the fields of PrepareConfig."""
    return read_plan_inputs(paths.plan)


def with_moved_sources(rows: pa.Table, paths: DatasetPaths) -> pa.Table:
    """Index rows with the paths that their videos have now: finished shards keep the paths of before a move."""
    if "source" not in rows.column_names or not paths.plan.is_file():
        return rows
    inputs = plan_inputs(paths)
    if not inputs.get(MOVED_FROM):
        return rows
    sources = [source and _moved_source(source, inputs) for source in rows["source"].to_pylist()]
    at = rows.column_names.index("source")
    return rows.set_column(at, rows.schema.field("source"), pa.array(sources, pa.string()))


def _moved_source(source: str, inputs: Mapping[str, Any]) -> str:
    now = inputs[VIDEOS]
    folders = [] if source.startswith(f"{now}/") else inputs[MOVED_FROM]
    before = next((folder for folder in folders if source.startswith(f"{folder}/")), now)
    return moved_path(source, before, now)


def read_json(path: AnyPath) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:  # neither JSON nor text
        raise InventoryError(
            f"{path} is damaged: {error}. Delete it and repeat the prepare command, which writes it again."
        ) from error
    return content


def _shard_sizes(plan: AnyPath) -> dict[str, int]:
    counted = pc.value_counts(read_plan(plan, ["shard"])["shard"]).to_pylist()
    return {one["values"]: one["counts"] for one in counted}


def _require_plan(paths: DatasetPaths) -> None:
    if paths.plan.is_file():
        return
    if (paths.root / LOCK_NAME).is_file():
        raise InventoryError(
            f"{paths.root} is being planned; repeat the command when its lists and videos are read."
        )
    raise InventoryError(
        f"{paths.root} is no dataset: {paths.plan.name} is not there. Name the folder that was given to "
        "`cavsync prepare ... --out`, or ROOT/data/<dataset>."
    )


def _require_version(root: AnyPath, found: object) -> None:
    if found != SCHEMA_VERSION:
        raise InventoryError(
            f"{root} has schema version {found}, this cavsync reads {SCHEMA_VERSION}; prepare it again, or use the "
            "cavsync that made it."
        )
