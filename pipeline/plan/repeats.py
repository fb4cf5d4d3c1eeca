"""Rows that list a clip again: the first row of a key is the clip, and has the labels of all its rows in the same split.

The rows in another split stay duplicates with labels of their own: a clip must not be in two splits, and a label from the
list of one split is not the other split's. Rows of one id and start that end at different times are different clips.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cavsync.pipeline.dataset.schema import clip_key


def seen_before(keys: Any) -> np.ndarray:
    """(rows,) bool: whether an earlier row has the same key. `keys` is a chunked array of strings, (rows,)."""
    codes: Any = pc.dictionary_encode(keys.combine_chunks())
    _, firsts = np.unique(codes.indices.to_numpy(), return_index=True)
    seen = np.ones(len(keys), bool)
    seen[firsts] = False
    return seen


def with_repeats_resolved(listed: pa.Table) -> pa.Table:
    """The rows in list order: those of one key and different ends with keys of their own, and the first of a key in a
    split with the labels of the later ones, each label once.
    """
    seen = seen_before(listed["key"])
    if not seen.any():  # of two million rows, usually
        return listed
    numbers = np.flatnonzero(
        pc.is_in(listed["key"], value_set=listed["key"].filter(pa.array(seen))).to_numpy()
    )
    return _with_all_labels(_with_own_keys(listed, numbers), numbers)


def _with_own_keys(listed: pa.Table, numbers: np.ndarray) -> pa.Table:
    """The rows; of those with these numbers, (repeated rows,) int, later ones of another end have the end in their key."""
    rows = listed.select(["key", "clip_id", "start_s", "end_s"]).take(pa.array(numbers)).to_pylist()
    ends_ms: dict[str, int] = {}  # key -> end of its first row
    keys: dict[int, str] = {}  # number of a row -> its key
    for number, row in zip(numbers.tolist(), rows, strict=True):
        end_ms = round(row["end_s"] * 1000)
        if ends_ms.setdefault(row["key"], end_ms) != end_ms:
            keys[number] = clip_key(f"{row['clip_id']}-to-{end_ms}", row["start_s"])
    return _replaced(listed, "key", keys)


def _with_all_labels(listed: pa.Table, numbers: np.ndarray) -> pa.Table:
    """The rows; of those with these numbers, (repeated rows,) int, the first of a key in a split has all labels."""
    rows = listed.select(["key", "split", "labels"]).take(pa.array(numbers)).to_pylist()
    firsts: dict[tuple[str, str], int] = {}  # (split, key) -> number of the first row
    labels: dict[int, dict[str, None]] = {}  # number of a first row -> labels
    for number, row in zip(numbers.tolist(), rows, strict=True):
        first = firsts.setdefault((row["split"], row["key"]), number)
        labels.setdefault(first, {}).update(dict.fromkeys(row["labels"] or ()))
    return _replaced(listed, "labels", {first: list(every) for first, every in labels.items()})


def _replaced(listed: pa.Table, name: str, values: dict[int, Any]) -> pa.Table:
    """The rows, those with these numbers with these values in a column."""
    if not values:
        return listed
    column = listed[name]
    source = np.arange(len(listed))
    source[list(values)] = len(listed) + np.arange(len(values))
    added = pa.array(list(values.values()), column.type)
    chosen = pa.chunked_array([*column.chunks, added]).take(pa.array(source))
    return listed.set_column(listed.column_names.index(name), listed.schema.field(name), chosen)


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
