"""Extends a plan by the new clips of a longer list: they get new shards, and planned rows stay as they are."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cavsync.errors import CavsyncError
from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.dataset.paths import shard_number
from cavsync.pipeline.lists.clip_list import ListedClip
from cavsync.pipeline.lists.videos import VideoTree
from cavsync.pipeline.plan.plan import Numbering, listed_table, planned_table
from cavsync.pipeline.plan.repeats import seen_before


class ListChangedError(CavsyncError):
    """A list has lost or changed clips that are planned."""


@dataclass(frozen=True)
class PlanExtension:
    """The extended plan, and the number of new rows at its end."""

    table: pa.Table
    num_new: int


def add_clips(
    planned: pa.Table,
    clips: Iterable[ListedClip],
    tree: VideoTree,
    layout: VideoLayout,
    numbering: Numbering,
    archives: ArchiveSet,
) -> PlanExtension:
    """The rows of `planned`, then those of `clips` that are not among them, in new shards.

    Raises ListChangedError when `clips` lacks a planned clip or lists it with other values.
    """
    listed = listed_table(clips)
    before, now = _numbered(planned), _numbered(listed)
    _require_listed(before, now, archives)
    _require_unchanged(before, now, archives)
    is_new = ~now.index.isin(before.index)
    seen = seen_before(pa.chunked_array([*planned["key"].chunks, *listed["key"].chunks]))[len(planned) :]
    # Planned keys count as seen: a new row of a planned key is a duplicate, the first row of a new key is not.
    numbering = replace(numbering, first=_first_free_numbers(planned))
    new = listed.filter(pa.array(is_new))
    added = planned_table(new, seen[is_new], tree, layout, numbering, listed)
    return PlanExtension(pa.concat_tables([planned, added]).combine_chunks(), len(added))


def _numbered(rows: pa.Table) -> pd.DataFrame:
    """The columns that must not change, indexed by (split, key, number of earlier rows with both)."""
    frame = rows.select(["split", "key", "end_s", "labels", "source", "listed_in"]).to_pandas()
    frame["again"] = frame.groupby(["split", "key"]).cumcount()
    numbered: pd.DataFrame = frame.set_index(["split", "key", "again"])
    return numbered


def _require_listed(before: pd.DataFrame, now: pd.DataFrame, archives: ArchiveSet) -> None:
    """Raises ListChangedError for a planned clip that is no longer listed although its video exists."""
    lost = before[~before.index.isin(now.index)]
    lost = lost[[source is None or archives.path_of(source).exists() for source in lost["source"]]]
    if len(lost):
        raise ListChangedError(
            f"{len(lost):,} planned clips are no longer listed, the first being {_name(lost, 0)}. Name the lists of "
            "the earlier runs too, or choose another --out."
        )


def _require_unchanged(before: pd.DataFrame, now: pd.DataFrame, archives: ArchiveSet) -> None:
    """Raises ListChangedError for a planned clip whose columns changed."""
    kept = before[before.index.isin(now.index)]
    named = now["source"].notna().all()
    for name in ("end_s", "labels", *(["source"] if named else [])):
        was, is_now = kept[name], now.loc[kept.index, name]
        is_same = partial(_same_file, archives) if name == "source" else _equal
        differs = [not is_same(*pair) for pair in zip(was, is_now, strict=True)]
        if any(differs):
            first = differs.index(True)
            raise ListChangedError(
                f"{sum(differs):,} planned clips are listed with other values, the first being {_name(kept, first)}: its "
                f"{name} was {_words(was.iloc[first])} and is now {_words(is_now.iloc[first])}. Restore the list, or "
                "choose another --out."
            )


def _equal(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one, other))


def _same_file(archives: ArchiveSet, was: str, now: str) -> bool:
    """Whether a planned path is the one that is listed now; one without a suffix may have got its file since."""
    is_completed = PurePosixPath(now).stem == PurePosixPath(was).name
    return was == now or (is_completed and not archives.path_of(was).exists())


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, np.ndarray) else str(value)


def _name(frame: pd.DataFrame, row: int) -> str:
    _, key, _ = frame.index[row]
    return f"{key} ({frame['listed_in'].iloc[row]})"


def _first_free_numbers(planned: pa.Table) -> dict[str, int]:
    """For each split, the number after its last shard's."""
    shards = planned.select(["split", "shard"]).group_by(["split", "shard"]).aggregate([]).to_pylist()
    free: dict[str, int] = {}
    for row in shards:
        free[row["split"]] = max(free.get(row["split"], 0), shard_number(row["shard"]) + 1)
    return free
