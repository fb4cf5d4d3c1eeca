"""One listed clip of a plan: the columns of plan.parquet, and the fields that a job gets.

A plan of two million rows stays an Arrow table; only the rows of the shard in work become `PlanRow`s. The decoder process
gets such rows and reads no table: pyarrow loads with the first table, because it would be a quarter of that process's start.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cavsync.pipeline.storage.parquet import DamagedFileError, read_schema, read_table
from cavsync.pipeline.storage.path import AnyPath

if TYPE_CHECKING:
    import pyarrow as pa

# Key of the Parquet file's metadata: JSON of what the plan was made from.
PLAN_INPUTS = b"cavsync"
# Keys of that JSON: the folder of the videos, and the folders where they were before.
VIDEOS, MOVED_FROM = "videos", "videos_moved_from"
# Column that only the plan of a retry has.
REPLACES = "replaces"
_WAY_OUT = "Restore it from a copy, or prepare into another folder."


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """One row of `plan_schema`; in the plan of a retry also of REPLACES."""

    key: str
    clip_id: str
    split: str
    shard: str  # "<split>-00000"
    listed_in: str | None = None  # "<file>:<row>", for messages
    source: str | None = None  # path or URL of the video; None when none was found
    source_start_s: float | None = None  # where the clip begins inside that file
    start_s: float  # as listed
    end_s: float
    labels: Sequence[str] = ()
    duplicate: bool = False  # the same key stands in an earlier row
    replaces: str | None = None  # the state that the clip had before this retry


@cache
def plan_schema() -> "pa.Schema":
    """The columns of a plan file."""
    import pyarrow as pa

    # Any: the stubs of pyarrow know no common type of fields.
    columns: list[Any] = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("listed_in", pa.string()),
        pa.field("source", pa.string()),
        pa.field("source_start_s", pa.float64()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("duplicate", pa.bool_(), nullable=False),
    ]
    return pa.schema(columns)


def plan_rows(table: "pa.Table") -> list[PlanRow]:
    """The rows of a table of `plan_schema`."""
    return [PlanRow(**row) for row in table.to_pylist()]


def read_plan(
    path: AnyPath, columns: Sequence[str] | None = None, filters: list[Any] | None = None
) -> "pa.Table":
    """Rows of a plan file. Raises DamagedFileError, which names the file and the way out."""
    return read_table(path, _WAY_OUT, columns, filters)


def read_plan_inputs(path: AnyPath) -> dict[str, Any]:
    """What the plan was made from: the dataset's name, its lists, and the fields of PrepareConfig."""
    metadata = read_schema(path, _WAY_OUT).metadata or {}
    if PLAN_INPUTS not in metadata:
        raise DamagedFileError(f"{path} is no plan of cavsync. {_WAY_OUT}")
    inputs: dict[str, Any] = json.loads(metadata[PLAN_INPUTS])
    return inputs
