"""Reads the rows of a list file: CSV in its common dialects, Parquet, JSON Lines or JSON.

Columns are identified by position (official lists have no header) or by title. The reader accepts a byte order mark,
CRLF, quotes around every cell, semicolons or tabs as separators, empty cells at the end, empty rows, and quotes that a
spreadsheet took for text.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any

import pyarrow.parquet as pq

from cavsync.errors import CavsyncError
from cavsync.pipeline.lists.text import encoding_of, read_text
from cavsync.pipeline.storage.parquet import DamagedFileError, damage_named
from cavsync.pipeline.storage.path import AnyPath, readable

NumberedRow = tuple[int, Sequence[Any]]  # line of the file (row, in Parquet and JSON) and its cells
Records = Iterator[tuple[int, Mapping[str, Any]]]  # the same, each cell under its title
Titles = Sequence[str] | None  # None: every column

SEPARATORS = ",;\t"
# Rows that decide about the separator.
NUM_HEAD_ROWS = 20
# A spreadsheet takes the id -abc for a formula and shows this error: no comment, although it begins with #.
SPREADSHEET_ERROR = re.compile(r"#(\S+[?!]|N/A|NV)$")
BATCH_ROWS = 10_000


class ListError(CavsyncError):
    """A list cannot be read; the message names the file, the row and the way out."""


def rows_by_position(path: AnyPath, num_columns: int) -> Iterator[NumberedRow]:
    """The rows of a CSV without a header; `num_columns` is the expected number of cells."""
    separator = _separator(path, lambda row: len(_repaired(row, num_columns)) == num_columns)
    for line, row in _csv_rows(path, separator):
        yield line, _repaired(row, num_columns)


def rows_by_title(path: AnyPath, titles: Sequence[str]) -> Iterator[NumberedRow]:
    """The cells of the columns `titles`, in that order, of every row. Raises ListError where a title is absent."""
    indices = column_indices(path, titles)
    if path.suffix.lower() in READERS:
        for number, record in READERS[path.suffix.lower()](path, titles):
            yield number, [record.get(title) for title in titles]
        return
    rows = _csv_rows(path, _separator(path, lambda row: set(titles) <= set(row)))
    width = len(next(rows, (0, []))[1])
    for line, row in rows:
        cells = _without_empty_end(row, width)
        if len(cells) != width:
            raise ListError(
                f"{path}, line {line}: {len(row)} columns instead of {width}. Correct or remove it."
            )
        yield line, [cells[index] for index in indices]


def titles_of(path: AnyPath) -> list[str]:
    """The column titles of a file: a CSV's first row, the columns of Parquet, the names in the first JSON object.

    Raises ListError for a file that is no text.
    """
    if not path.is_file():
        raise ListError(f"{path} is no file; it should be a list, as CSV, Parquet or JSON Lines.")
    suffix = path.suffix.lower()
    if suffix in READERS:
        _, first = next(READERS[suffix](path, None), (0, {}))
        return list(first)
    separator = max(SEPARATORS, key=lambda one: max((len(row) for _, row in _head(path, one, 1)), default=0))
    _, row = next(_csv_rows(path, separator), (0, []))
    return [cell.strip() for cell in row]


def column_indices(path: AnyPath, titles: Sequence[str]) -> list[int]:
    """Indices of the titled columns. Raises ListError for an absent title, with the nearest one."""
    found = titles_of(path)
    for title in titles:
        if found.count(title) > 1:
            raise ListError(
                f"{path} has {found.count(title)} columns with the title {title!r}. Rename or remove all but one."
            )
        if title not in found:
            near = get_close_matches(title, found, 1)
            meant = f"; did you mean {near[0]!r}?" if near else "."
            raise ListError(f"{path} has no column {title!r}{meant} It has: {', '.join(found) or 'none'}.")
    return [found.index(title) for title in titles]


def _separator(path: AnyPath, fits: Callable[[list[str]], bool]) -> str:
    """The separator under which most of the first rows fit; a comma if none does."""
    return max(SEPARATORS, key=lambda one: sum(fits(row) for _, row in _head(path, one, NUM_HEAD_ROWS)))


def _head(path: AnyPath, separator: str, num_rows: int) -> list[tuple[int, list[str]]]:
    """The first rows under that separator; empty where the quotes do not match."""
    try:
        return list(islice(_csv_rows(path, separator), num_rows))
    except ListError:
        return []


def _csv_rows(path: AnyPath, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of every row that is neither empty nor a comment."""
    last_line = 0
    with path.open(newline="", encoding=encoding_of(path)) as file:
        # AudioSet separates by ", ". Strict, because a lost quote would swallow all rows up to the next quote.
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
        try:
            for row in reader:
                last_line = reader.line_num
                if row and (row[0] or any(map(str.strip, row))) and not _is_comment(row[0]):
                    yield last_line, row
        except (csv.Error, UnicodeError) as error:
            raise ListError(f"{path}, after line {last_line}: {error}; this is no CSV in UTF-8.") from error


def _is_comment(first_cell: str) -> bool:
    return first_cell[:1] == "#" and not SPREADSHEET_ERROR.match(first_cell)


def _repaired(row: list[str], width: int) -> list[str]:
    """The cells as they were before a spreadsheet padded the row and cut the last cell at its commas.

    Spreadsheets do that to AudioSet's labels: the space before the quotes makes them part of the text.
    """
    row = _without_empty_end(row, width)
    if len(row) < width or row[width - 1].lstrip()[:1] != '"':
        return row
    last = ",".join(row[width - 1 :]).strip()
    whole = last.endswith('"') and last.count('"') == 2
    return [*row[: width - 1], last[1:-1]] if whole else row


def _without_empty_end(row: list[str], width: int) -> list[str]:
    """The row without the empty cells with which spreadsheets pad it to the widest row."""
    while len(row) > width and not row[-1].strip():
        row = row[:-1]
    return row


def _parquet(path: AnyPath, titles: Titles) -> Records:
    try:
        with damage_named(path, "Copy or write it again."), pq.ParquetFile(readable(path)) as file:
            batches: Iterable[Any] = file.iter_batches(BATCH_ROWS, columns=titles)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from enumerate(rows, 1)
    except DamagedFileError as error:
        raise ListError(str(error)) from error


def _json_lines(path: AnyPath, _: Titles) -> Records:
    last_line = 0
    with path.open(newline="\n", encoding=encoding_of(path)) as file:
        try:
            for line, text in enumerate(file, 1):
                last_line = line
                if text.strip():
                    yield line, _object(path, line, _parsed(path, line, text))
        except UnicodeError as error:
            raise ListError(f"{path}, after line {last_line}: {error}; this is no JSON in UTF-8.") from error


def _json(path: AnyPath, _: Titles) -> Records:
    try:
        text = read_text(path)
    except UnicodeError as error:
        raise ListError(f"{path}, line 1: {error}; this is no JSON in UTF-8.") from error
    content = _parsed(path, 1, text)
    if not isinstance(content, list):
        raise ListError(f"{path} is no list of clips: it should read [{{...}}, {{...}}].")
    for number, record in enumerate(content, 1):
        yield number, _object(path, number, record)


def _parsed(path: AnyPath, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ListError(f"{path}, line {line}: {error}; this is no JSON in UTF-8.") from error


def _object(path: AnyPath, number: int, record: Any) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        raise ListError(f"{path}, line {number}: {str(record)[:80]!r} is no object with named values.")
    return record


READERS: dict[str, Callable[[AnyPath, Titles], Records]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
}
