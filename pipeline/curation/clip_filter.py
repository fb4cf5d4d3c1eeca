"""A condition that chooses clips: an SQL expression over the columns of a table, evaluated by DuckDB.

The language is that of a WHERE clause, such as `not silent and not still and duration_s >= 5`, with DuckDB's functions:
`list_contains(labels, 'Dog')`, `len(audio_gaps_s) = 0`, `regexp_matches(clip_id, '^a')`. An expression sees the columns
and nothing else: neither files, nor the network, nor variables of this process.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.index_row import IndexRow, TarMembers, index_schema, row_columns

# The columns that a clip has before it is written; the outcome itself and the places in the tar are not among them.
CLIP_SCHEMA = pa.schema(
    [
        field
        for field in index_schema()
        if field.name not in {"state", "reason", *TarMembers.__dataclass_fields__}
    ]
)
# An expression reads its table only, and starts no thread.
_CLOSED: Any = {"enable_external_access": False, "python_enable_replacements": False, "threads": 1}


class FilterError(CavsyncError):
    """An expression that cannot choose clips; the message has the expression, the cause and the columns."""

    cause = ""


@dataclass(frozen=True)
class ClipFilter:
    """The clips for which `expression` is true. `option` is its name for messages, such as --keep."""

    expression: str
    option: str = "--keep"

    def check(self, schema: pa.Schema) -> None:
        """Raises FilterError where the expression is no condition over columns of `schema`."""
        # Two rows: a sum over them would give one. Not none: a text that is no number is found when it is compared.
        nulls = {field.name: pa.nulls(2, field.type) for field in schema}
        self.kept(pa.table(nulls))

    def reason_against(self, row: IndexRow) -> str | None:
        """Why a prepared clip is not kept; None where it is. The row needs no places in the tar."""
        columns = row_columns(row)
        clip = pa.table({name: [columns.get(name)] for name in CLIP_SCHEMA.names}, schema=CLIP_SCHEMA)
        try:
            return None if self.kept(clip)[0] else f"not {self.expression}"
        except FilterError as error:  # a text that is no number, for example
            return f"{self.option} {self.expression!r} cannot be evaluated: {error.cause}"

    def kept(self, clips: pa.Table) -> np.ndarray:
        """bool (clips,): whether each row is kept; one for which the expression is null is not.

        Raises FilterError where the expression cannot be evaluated.
        """
        import duckdb  # 40 ms, for those who filter

        try:
            chosen = _database().cursor().from_arrow(clips).project(self.expression)
            self._require_condition(chosen.columns, chosen.types, clips.schema)
            values = chosen.to_arrow_table().column(0)
        except duckdb.Error as error:
            raise self._error(_cause(error), clips.schema) from error
        if len(values) != len(clips):
            raise self._error("it gives one value for all clips, not one for each", clips.schema)
        kept: np.ndarray = values.fill_null(False).to_numpy()
        return kept

    def _require_condition(self, columns: list[str], types: list[object], schema: pa.Schema) -> None:
        if len(columns) != 1:
            raise self._error(f"it is {len(columns)} expressions", schema)
        if str(types[0]) != "BOOLEAN":
            raise self._error(f"it gives {types[0]}, not true or false", schema)

    def _error(self, cause: str, schema: pa.Schema) -> FilterError:
        error = FilterError(
            f"{self.option} {self.expression!r} chooses no clips: {cause}. It must be a condition as after WHERE in SQL, "
            f'such as "not silent and duration_s >= 5"; the columns are {", ".join(schema.names)}.'
        )
        error.cause = cause
        return error


@cache
def _database() -> Any:
    """An empty one of this process: making it takes ten times as long as asking of a clip."""
    import duckdb

    return duckdb.connect(config=_CLOSED)


def _cause(error: Exception) -> str:
    """The first paragraph of DuckDB's message, without the kind of error before it and the quoted line after it."""
    text = str(error).split("\n\nLINE ")[0]
    return " ".join(text.partition("Error: ")[2].split()).rstrip(".") or text
