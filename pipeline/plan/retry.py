"""Plans another try of failed clips: a retry has its own plan, and shards beside the finished ones.

The second retry is `plan-r2.parquet` and makes shards such as `train-00000r2`. The rows of the failed clips stay where
they are; the done-record of a retry holds the states that its results replace, so that the sum over all done-records
counts every listed clip once. A clip in state ok is never tried again, so at most one row of a clip is ok.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.dataset.index_row import read_index
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.plan_row import REPLACES, plan_schema
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.lists.named_files import NamedFiles
from cavsync.pipeline.lists.videos import VideoTree, find_sources
from cavsync.pipeline.plan.plan import Numbering, Plan, shard_order
from cavsync.pipeline.storage.path import each

# States that no retry changes.
FINAL_STATES = {ClipState.OK, ClipState.DUPLICATE, ClipState.FILTERED}
_find: Any = pc.index_in


@dataclass(frozen=True)
class Retry:
    """The plan of one retry, and the number of failed clips left out because they still have no video."""

    plan: Plan
    num_without_video: int


def retry_plans(paths: DatasetPaths) -> list[Plan]:
    """The plans of all retries so far, in order."""
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
    named: NamedFiles | None,
    layout: VideoLayout,
    numbering: Numbering,
) -> Retry:
    """A plan for the clips whose keys are in `failed` (key -> state), their videos looked up again in `tree`.

    Without a tree the lists name the videos, and the planned paths are kept; `named` completes those without a suffix.
    """
    keys: Any = pa.array(list(failed), pa.string())
    states = pa.array(list(failed.values()), pa.string())
    wanted = pc.and_(pc.is_in(planned.table["key"], value_set=keys), pc.invert(planned.table["duplicate"]))
    rows = planned.table.filter(wanted)
    if tree is not None:
        source, start_s = find_sources(tree, rows, layout, planned.table)
        rows = _with_column(_with_column(rows, "source", source), "source_start_s", start_s)
    elif named is not None:
        sources = [named.source(source) for source in rows["source"].to_pylist()]
        rows = _with_column(rows, "source", pa.array(sources, pa.string()))
    rows = rows.append_column(REPLACES, pc.take(states, _find(rows["key"], value_set=keys)))
    found = rows.filter(pc.is_valid(rows["source"]))
    order, shard = shard_order(found["key"], found["split"], numbering)
    table = _with_column(found.take(pa.array(order)), "shard", shard)
    return Retry(Plan(table.combine_chunks(), {}), len(rows) - len(found))


def _with_column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(plan_schema().names.index(name), plan_schema().field(name), values)


def failed_clips(paths: DatasetPaths, shards: Iterable[str]) -> dict[str, str]:
    """Key -> latest state of every failed clip, over the index of all finished shards, retries after what they retry."""

    def rows_of(shard: str) -> pa.Table:
        return read_index(paths, shard, ["key", "state"])

    failed: dict[str, str] = {}
    for rows in each(rows_of, shards, paths.root):
        for key, state in zip(rows["key"].to_pylist(), rows["state"].to_pylist(), strict=True):
            if state not in FINAL_STATES:
                failed[key] = state
            elif state != ClipState.DUPLICATE:
                failed.pop(key, None)
    return failed
