"""Another try for the clips that failed: a plan of its own, with shards beside the finished ones.

Round 2 of retries is `plan-r2.parquet` and makes shards such as `train-00000r2`. The rows of the shards that failed
stay as they are; the done-record of a retry says how many clips of each state its results take the place of, so
the sum over all done-records counts every listed clip once. A clip that is ok is never tried again, so at most one
row of a clip is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import PLAN_SCHEMA, REPLACES
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.lists.videos import VideoTree, find_sources
from cavsync.pipeline.plan.plan import Numbering, Plan, shard_order
from cavsync.pipeline.storage.path import each, readable

# States that no retry changes.
FINAL_STATES = {ClipState.OK, ClipState.DUPLICATE}
_find: Any = pc.index_in


@dataclass(frozen=True)
class Retry:
    """One round of retries, and how many failed clips are not in it because they still have no video."""

    plan: Plan
    num_without_video: int


def retry_plans(paths: DatasetPaths) -> list[Plan]:
    """The rounds that there were, in order."""
    rounds = []
    for number in count(1):
        if not paths.retry_plan(number).is_file():
            break
        rounds.append(Plan.read(paths.retry_plan(number)))
    return rounds


def plan_retry(
    planned: Plan,
    failed: Mapping[str, str],
    tree: VideoTree | None,
    layout: VideoLayout,
    numbering: Numbering,
) -> Retry:
    """A plan for the clips whose keys are in `failed` (key -> state), their videos looked up again in `tree`.

    Without a tree the lists name the videos, and the rows say where they are.
    """
    keys: Any = pa.array(list(failed), pa.string())
    states = pa.array(list(failed.values()), pa.string())
    wanted = pc.and_(pc.is_in(planned.table["key"], value_set=keys), pc.invert(planned.table["duplicate"]))
    rows = planned.table.filter(wanted)
    if tree is not None:
        rows = _with_sources(rows, *find_sources(tree, rows, layout))
    rows = rows.append_column(REPLACES, pc.take(states, _find(rows["key"], value_set=keys)))
    there = rows.filter(pc.is_valid(rows["source"]))
    order, shard = shard_order(there["key"], there["split"], numbering)
    place = PLAN_SCHEMA.names.index("shard")
    table = there.take(pa.array(order)).set_column(place, PLAN_SCHEMA.field("shard"), shard)
    return Retry(Plan(table.combine_chunks(), {}), len(rows) - len(there))


def _with_sources(rows: pa.Table, source: Any, start_s: Any) -> pa.Table:
    for name, values in (("source", source), ("source_start_s", start_s)):
        rows = rows.set_column(PLAN_SCHEMA.names.index(name), PLAN_SCHEMA.field(name), values)
    return rows


def failed_clips(paths: DatasetPaths, shards: Iterable[str]) -> dict[str, str]:
    """Key and latest state of every clip that failed; `shards` are all finished ones, retries after what they retry."""

    def rows_of(shard: str) -> pa.Table:
        return pq.read_table(readable(paths.index(shard)), columns=["key", "state"])

    failed: dict[str, str] = {}
    for rows in each(rows_of, shards, paths.root):
        for key, state in zip(rows["key"].to_pylist(), rows["state"].to_pylist(), strict=True):
            if state not in FINAL_STATES:
                failed[key] = state
            elif state == ClipState.OK:
                failed.pop(key, None)
    return failed
