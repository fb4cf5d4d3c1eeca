"""The plan: every listed clip with its video and its shard, fixed before anything is decoded.

Planned rows never change: a longer list adds rows and shards at the end (extend.py), a retry has its own plan (retry.py).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.dataset.plan_row import (
    PLAN_INPUTS,
    PlanRow,
    plan_rows,
    plan_schema,
    read_plan,
    read_plan_inputs,
)
from cavsync.pipeline.dataset.schema import clip_key
from cavsync.pipeline.lists.clip_list import ListedClip
from cavsync.pipeline.lists.videos import VideoTree, find_sources
from cavsync.pipeline.plan.repeats import seen_before, with_repeats_resolved
from cavsync.pipeline.storage.atomic import AtomicWriter
from cavsync.pipeline.storage.path import AnyPath

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Plan:
    """A table of `plan_schema` in shard order, and the inputs that it was made from."""

    table: pa.Table
    inputs: dict[str, Any]

    @classmethod
    def read(cls, path: AnyPath) -> "Plan":
        return cls(read_plan(path), read_plan_inputs(path))

    def write(self, path: AnyPath) -> None:
        with AtomicWriter(path) as output:
            pq.write_table(
                self.table.replace_schema_metadata({PLAN_INPUTS: json.dumps(self.inputs)}), output.file
            )
            output.publish()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def num_found(self) -> int:
        """Number of clips that have a video."""
        return len(self) - int(self.table["source"].null_count)

    def splits(self) -> list[str]:
        return sorted(map(str, pc.unique(self.table["split"]).to_pylist()))

    def labels(self) -> list[str]:
        """All labels of the clips, sorted."""
        return sorted(map(str, pc.unique(pc.list_flatten(self.table["labels"])).to_pylist()))

    def count_of_list(self, name: str) -> int:
        """Number of clips from the list with that file name."""
        return int(np.sum(pc.starts_with(self.table["listed_in"], f"{name}:").to_numpy()))

    def shards(self) -> dict[str, slice]:
        """Shard -> its rows, in order."""
        shards: Any = self.table["shard"].combine_chunks()
        runs = pc.run_end_encode(shards)
        names, stops = runs.values.to_pylist(), runs.run_ends.to_pylist()
        return {
            name: slice(start, stop) for name, start, stop in zip(names, [0, *stops], stops, strict=False)
        }

    def rows(self, span: slice) -> list[PlanRow]:
        return plan_rows(self.table.slice(span.start, span.stop - span.start))


@dataclass(frozen=True)
class Numbering:
    """How new shards are filled and named: `<split>-<number><suffix>`, from the split's first free number on."""

    shard_size: int
    seed: int
    first: Mapping[str, int] = field(default_factory=dict)  # split -> number; 0 where absent
    suffix: str = ""


def make_plan(
    clips: Iterable[ListedClip], tree: VideoTree, layout: VideoLayout, shard_size: int, seed: int
) -> pa.Table:
    """Rows of `plan_schema` in shard order, each shard a pure function of its split's keys, `seed` and `shard_size`.

    Videos come from `tree`, unless the lists name them.
    """
    listed = listed_table(clips)
    duplicate, numbering = seen_before(listed["key"]), Numbering(shard_size, seed)
    return planned_table(listed, duplicate, tree, layout, numbering, listed)


def listed_table(clips: Iterable[ListedClip]) -> pa.Table:
    """The clips as rows in list order, each with its key; the first row of a clip has the labels of its later ones."""
    return with_repeats_resolved(pa.Table.from_batches(_batches(iter(clips)), _LISTED_SCHEMA))


def planned_table(
    new: pa.Table,
    duplicate: np.ndarray,
    tree: VideoTree,
    layout: VideoLayout,
    numbering: Numbering,
    listed: pa.Table,
) -> pa.Table:
    """A table of `plan_schema` of the clips `new`, which are among `listed`, with their videos and shards.

    `duplicate` is (new rows,) bool.
    """
    named = new["source"].null_count == 0
    source, start_s = (new["source"], new["start_s"]) if named else find_sources(tree, new, layout, listed)
    order, shard = shard_order(new["key"], new["split"], numbering)
    columns = {
        **{name: new[name].take(order) for name in new.column_names},
        "source": source.take(order),
        "source_start_s": start_s.take(order),
        "shard": shard,
        "duplicate": pa.array(duplicate[order]),
    }
    return pa.table([columns[name] for name in plan_schema().names], schema=plan_schema())


def shard_order(keys: Any, splits: Any, numbering: Numbering) -> tuple[np.ndarray, Any]:
    """The order of the rows, (rows,) int, by split and then by a hash of (seed, key); and the shard of each ordered row."""
    # A hash, not a generator's permutation: it gives the same order with every version of numpy.
    digests = np.fromiter(
        (_digest(numbering.seed, key) for chunk in keys.chunks for key in chunk.to_pylist()), np.uint64
    )
    names, split = _coded(splits)
    order = np.lexsort((digests, split))
    first_of_split = np.searchsorted(split[order], split[order])
    number = (np.arange(len(order)) - first_of_split) // numbering.shard_size
    starts = np.flatnonzero((number != np.roll(number, 1)) | (first_of_split == np.arange(len(order))))
    shards = [_shard_name(names[split[order[start]]], int(number[start]), numbering) for start in starts]
    sizes = np.diff([*starts, len(order)])
    shard_index: Any = np.repeat(np.arange(len(starts)), sizes)
    return order, pa.array(shards, pa.string()).take(pa.array(shard_index))


def _shard_name(split: str, number: int, numbering: Numbering) -> str:
    return f"{split}-{numbering.first.get(split, 0) + number:05d}{numbering.suffix}"


def _digest(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest())


def _coded(strings: Any) -> tuple[list[str], np.ndarray]:
    """The distinct strings, sorted, and the index of each of `strings` among them, (rows,) int."""
    names = sorted(map(str, pc.unique(strings).to_pylist()))
    return names, pc.index_in(strings, value_set=pa.array(names, pa.string())).to_numpy()


_LISTED_SCHEMA = pa.schema(
    [plan_schema().field("key"), *[plan_schema().field(name) for name in ListedClip._fields]]
)


def _batches(rows: Iterator[ListedClip]) -> Iterator[pa.RecordBatch]:
    """The rows as Arrow columns; their Python objects live for one batch only."""
    while batch := list(islice(rows, BATCH_ROWS)):
        keys = [clip_key(row.clip_id, row.start_s) for row in batch]
        columns = [keys, *zip(*batch, strict=True)]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, _LISTED_SCHEMA, strict=True)]
        yield pa.record_batch(arrays, schema=_LISTED_SCHEMA)
