"""Rows that list a clip again: the first row of a key is the clip, and has the labels of all its rows in the same split.

The rows in another split stay duplicates with labels of their own: a clip must not be in two splits, and a label from the
list of one split is not the other split's.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def seen_before(keys: Any) -> np.ndarray:
    """(rows,) bool: whether an earlier row has the same key. `keys` is a chunked array of strings, (rows,)."""
    codes: Any = pc.dictionary_encode(keys.combine_chunks())
    _, firsts = np.unique(codes.indices.to_numpy(), return_index=True)
    seen = np.ones(len(keys), bool)
    seen[firsts] = False
    return seen


def with_all_labels(listed: pa.Table) -> pa.Table:
    """The rows, the first of a key in a split with the labels of the later ones, each label once, in list order."""
    again = listed["key"].filter(pa.array(seen_before(listed["key"])))
    if not len(again):
        return listed
    numbers = np.flatnonzero(pc.is_in(listed["key"], value_set=pc.unique(again)).to_numpy())
    rows = listed.select(["key", "split", "labels"]).take(pa.array(numbers)).to_pylist()
    firsts: dict[tuple[str, str], int] = {}  # (split, key) -> number of the first row
    labels: dict[int, dict[str, None]] = {}  # number of a first row -> labels
    for number, row in zip(numbers.tolist(), rows, strict=True):
        first = firsts.setdefault((row["split"], row["key"]), number)
        labels.setdefault(first, {}).update(dict.fromkeys(row["labels"] or ()))
    return _with_labels(listed, {first: list(every) for first, every in labels.items()})


def _with_labels(listed: pa.Table, labels: dict[int, list[str]]) -> pa.Table:
    """The rows, those with these numbers with these labels."""
    column = listed["labels"]
    added = pa.array(list(labels.values()), column.type)
    source = np.arange(len(listed))
    source[list(labels)] = len(listed) + np.arange(len(labels))
    chosen = pa.chunked_array([*column.chunks, added]).take(pa.array(source))
    return listed.set_column(listed.column_names.index("labels"), listed.schema.field("labels"), chosen)


def repeats(planned: pa.Table) -> list[str]:
    """Sentences about the rows of a plan that list a clip again; none where there are none."""
    again = planned.filter(planned["duplicate"])
    if not len(again):
        return []
    is_first = pc.and_(
        pc.invert(planned["duplicate"]), pc.is_in(planned["key"], value_set=pc.unique(again["key"]))
    )
    firsts = planned.filter(is_first)
    splits = dict(zip(firsts["key"].to_pylist(), firsts["split"].to_pylist(), strict=True))
    pairs = zip(again["key"].to_pylist(), again["split"].to_pylist(), strict=True)
    elsewhere = sum(splits[key] != split for key, split in pairs)
    lines = []
    if len(again) > elsewhere:
        lines.append(
            f"{len(again) - elsewhere:,} rows list a clip again (duplicate); their labels are added to those of its first row."
        )
    if elsewhere:
        lines.append(
            f"{elsewhere:,} rows list a clip that is in another split before (duplicate); it stays there, without their labels."
        )
    return lines
