"""Finds keys that are ok in two rows, and videos with clips in training and in test splits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.pipeline.dataset.index_row import read_index
from cavsync.pipeline.dataset.paths import DatasetPaths
from cavsync.pipeline.dataset.schema import ClipState
from cavsync.pipeline.storage.path import each

COLUMNS = ["key", "clip_id", "split"]


@dataclass(frozen=True)
class Overlaps:
    """Keys and video ids that occur where they must not."""

    repeated_keys: list[str]  # ok in more than one row of all shards
    leaked_ids: list[str]  # video ids with ok clips in splits of different roles


def find_overlaps(paths: DatasetPaths, shards: Iterable[str], roles: Mapping[str, str]) -> Overlaps:
    """Overlaps among the clips in state ok of `shards`; keeps three columns of them in memory."""
    usable = [("state", "=", ClipState.OK)]

    def clips_of(shard: str) -> pa.Table:
        return read_index(paths, shard, COLUMNS, usable)

    tables = list(each(clips_of, shards, paths.root))
    if not tables:
        return Overlaps([], [])
    clips = pa.concat_tables(tables)
    return Overlaps(_repeated(clips["key"]), _leaked(clips, roles))


def _repeated(keys: Any) -> list[str]:
    counted: Any = pc.value_counts(keys)
    often: list[str] = counted.filter(pc.greater(counted.field("counts"), 1)).field("values").to_pylist()
    return sorted(often)


def _leaked(clips: pa.Table, roles: Mapping[str, str]) -> list[str]:
    splits: dict[str, list[str]] = {}
    for split, role in roles.items():
        splits.setdefault(role, []).append(split)
    ids = [_ids_in(clips, names) for names in splits.values()]
    common: set[str] = set()
    for one, other in combinations(ids, 2):
        common.update(one.filter(pc.is_in(one, value_set=other)).to_pylist())
    return sorted(common)


def _ids_in(clips: pa.Table, splits: list[str]) -> Any:
    own = clips.filter(pc.is_in(clips["split"], value_set=pa.array(splits, pa.string())))
    return pc.unique(own["clip_id"])
