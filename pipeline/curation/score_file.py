"""A file of scores, one row a clip: columns that conditions over the index may use beside those of the index."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cavsync.errors import CavsyncError
from cavsync.pipeline.storage.atomic import AtomicWriter
from cavsync.pipeline.storage.parquet import read_schema, read_table
from cavsync.pipeline.storage.path import AnyPath

# Key of the file's metadata whose JSON object says what made the scores.
ABOUT = b"cavsync"
_find: Any = pc.index_in


class ScoreFileError(CavsyncError):
    """A file of scores that cannot be joined; the message names it and the columns or keys at fault."""


def write_scores(path: AnyPath, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Each row has a `key` and the scores of that clip, the same names in all rows."""
    write_described(path, pa.Table.from_pylist(list(rows)), about)


def write_described(path: AnyPath, table: pa.Table, about: Mapping[str, Any]) -> None:
    """A Parquet file whose metadata say what made it."""
    with AtomicWriter(path) as output:
        pq.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about)}), output.file)
        output.publish()


def scored_by(path: AnyPath) -> dict[str, Any]:
    """What made the scores of a file; empty where it does not say. Raises DamagedFileError for no Parquet file."""
    metadata = read_schema(path, "Give another file.").metadata or {}
    about: dict[str, Any] = json.loads(metadata.get(ABOUT, b"{}"))
    return about


def with_scores(
    clips: pa.Table,
    paths: Sequence[AnyPath],
    option: str = "--scores",
    report: Callable[[str], None] | None = None,
) -> pa.Table:
    """The rows of `clips`, which has a column `key`, with the columns of the files; null where a file lacks a clip.

    `report` gets a sentence about each file that lacks some of the clips. Raises ScoreFileError for a file without keys or with one twice, with a column that is there already, or with no
    clip of these.
    """
    for path in paths:
        scores = _read(path, option)
        at = _find(clips["key"], value_set=scores["key"].combine_chunks())
        if at.null_count == len(clips):
            raise ScoreFileError(
                f"{option} {path} has scores of {len(scores):,} clips, none of which is among these {len(clips):,}: such as "
                f"{scores['key'][0]}. Was it made of another dataset?"
            )
        if at.null_count and report is not None:
            report(
                f"{option} {path} has no row of {at.null_count:,} of these {len(clips):,} clips, for which its columns are NULL."
            )
        for name in scores.column_names:
            if name != "key":
                _require_new(name, clips, path, option)
                clips = clips.append_column(name, scores[name].combine_chunks().take(at))
    return clips


def _read(path: AnyPath, option: str) -> pa.Table:
    if not path.is_file():
        raise ScoreFileError(f"{option} {path} is not there.")
    scores = read_table(path, f"Give {option} a Parquet file as `cavsync data score` writes it.")
    if "key" not in scores.column_names or not len(scores):
        raise ScoreFileError(
            f"{option} {path} has the columns {', '.join(scores.column_names)} and {len(scores):,} rows; it must have a column "
            "key with the clips' keys, and their scores beside it."
        )
    num_different = pc.count_distinct(scores["key"]).as_py()
    if num_different != len(scores):
        raise ScoreFileError(
            f"{option} {path} has {len(scores):,} rows and {num_different:,} different keys; each clip may have one row."
        )
    return scores


def _require_new(name: str, clips: pa.Table, path: AnyPath, option: str) -> None:
    if name in clips.column_names:
        raise ScoreFileError(
            f"{option} {path} has a column {name!r}, which the index or another file has too; rename it."
        )
