"""The lists of datasets, read as they are published: which clips there are, where they begin, what they show.

Everything in a list is data. An id becomes part of file names, so one that could leave its folder is refused
with the row that holds it.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cavsync.pipeline.errors import CavsyncError
from cavsync.pipeline.manifest import ListSpec

# YouTube's alphabet; longer than its 11 characters because other people's ids are.
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Keys hold the start as 8 digits of milliseconds.
MAX_START_S = 99_999.999
DEFAULT_CLIP_S = 10.0
# First cell of the row of column names, which copies of the lists hold without AudioSet's #.
COLUMN_TITLES = {"YTID", "ytid", "youtube_id", "video_id"}
# A clip is held in memory while it is decoded.
MAX_CLIP_S = 600.0


class ListError(CavsyncError):
    """A list that cannot be read; the message names the file, the row and what to do."""


class ListedClip(NamedTuple):
    """One row of a list. (A named tuple: two million of these must be made in seconds.)"""

    clip_id: str
    split: str
    start_s: float
    end_s: float
    labels: tuple[str, ...]
    listed_in: str
    source: str | None = None  # where the list itself names the file


def read_list(path: Path, spec: ListSpec) -> Iterator[ListedClip]:
    """The clips of a CSV whose columns `spec` names, in order. Raises ListError at the first broken row."""
    reader = _RowReader(spec, path.name)
    for line, row in numbered_rows(path):
        if row[0] in COLUMN_TITLES:
            continue
        try:
            yield reader.read(row, line)
        except ValueError as error:
            raise ListError(
                f"{path}, line {line}: {error}. The line reads {','.join(row)!r}; its columns should be "
                f"{', '.join(spec.columns)}. Correct it, remove it, or put # before it."
            ) from error


def numbered_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row that is neither empty nor a comment."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, skipinitialspace=True)  # AudioSet separates by ", "
        try:
            for row in reader:
                if row and not row[0].startswith("#"):
                    yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ListError(
                f"{path}, after line {reader.line_num}: {error}; this is no CSV in UTF-8."
            ) from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _RowReader:
    """Rows of one list to clips. The places of its columns are looked up once: lists have two million rows."""

    def __init__(self, spec: ListSpec, file: str) -> None:
        self._spec, self._file, self._width = spec, file, len(spec.columns)
        at = {name: place for place, name in enumerate(spec.columns)}
        self._id, self._start, self._end = at.get("id"), at.get("start_s"), at.get("end_s")
        self._name, self._label, self._labels = at.get("file"), at.get("label"), at.get("labels")
        self._split = at.get("split")

    def read(self, row: Sequence[str], line: int) -> ListedClip:
        """Raises ValueError, which says what is wrong with the row."""
        if len(row) != self._width:
            raise ValueError(f"{len(row)} columns instead of {self._width}")
        clip_id, start = self._identity(row)
        if not ID.fullmatch(clip_id):
            raise ValueError(f"{clip_id!r} is no id: letters, digits, - and _ only")
        start_s = _seconds(start)
        end_s = start_s + DEFAULT_CLIP_S if self._end is None else _seconds(row[self._end])
        if not start_s < end_s <= start_s + MAX_CLIP_S:
            raise ValueError(f"the clip ends at {end_s:g} s and begins at {start_s:g} s")
        split = self._spec.split if self._split is None else self._known_split(row[self._split])
        return ListedClip(clip_id, split, start_s, end_s, self._all_labels(row), f"{self._file}:{line}")

    def _identity(self, row: Sequence[str]) -> tuple[str, str]:
        """Id and start, from their columns or from a file name such as `glLQrEijrKg_000300.mp4`."""
        if self._name is None:
            assert self._id is not None, "parse_manifest checks the columns"
            assert self._start is not None
            return row[self._id], row[self._start]
        clip_id, _, start = row[self._name].removesuffix(".mp4").rpartition("_")  # ids hold _ themselves
        return clip_id, start

    def _all_labels(self, row: Sequence[str]) -> tuple[str, ...]:
        if self._labels is not None:
            return tuple(row[self._labels].split(","))
        return () if self._label is None else (row[self._label],)

    def _known_split(self, split: str) -> str:
        if split not in self._spec.splits:
            raise ValueError(f"{split!r} is not one of the splits {', '.join(self._spec.splits)}")
        return split


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time in seconds") from None
    if not 0 <= seconds <= MAX_START_S:  # not a number is neither
        raise ValueError(f"{text!r} is no time in a video (0 to {MAX_START_S:.0f} s)")
    return seconds
