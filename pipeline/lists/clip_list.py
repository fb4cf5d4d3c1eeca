"""Reads the lists of datasets in their published formats: the clips, their times and their labels.

A list is untrusted data. Ids become parts of file names and paths are opened, so an id or path that could leave its
folder raises ListError with its row.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cavsync.pipeline.lists.manifest import ListSpec
from cavsync.pipeline.lists.named_files import NamedFiles
from cavsync.pipeline.lists.names import SAFE_NAME, FileIds, relative_path
from cavsync.pipeline.lists.tables import (
    SPREADSHEET_ERROR,
    ListError,
    NumberedRow,
    rows_by_position,
    rows_by_title,
)
from cavsync.pipeline.media.demuxing.formats import MEDIA_SUFFIXES
from cavsync.pipeline.storage.path import AnyPath

# Keys hold the start as 8 digits of milliseconds.
MAX_START_S = 99_999.999
DEFAULT_CLIP_S = 10.0
# A clip is held in memory while it is decoded.
MAX_CLIP_S = 600.0
# First cell of a header, which some copies of the lists have without AudioSet's #.
COLUMN_TITLES = {"ytid", "youtube_id", "youtubeid", "video_id", "video", "id", "file", "filename"}
# A time in the notation of the lists. A spreadsheet's 1E+02 has lost digits.
PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
# Pattern of the suffix of a media file or image, in any case.
MEDIA_SUFFIX = rf"\.(?i:{'|'.join(sorted(suffix[1:] for suffix in MEDIA_SUFFIXES))}|jpe?g)"
# Clip names in VGGSound's test list and VGG-SS: id and start.
CLIP_NAME = re.compile(rf"(?P<id>.+)_(?P<start_s>[0-9]{{6}})({MEDIA_SUFFIX})?")
YOUTUBE_ID_LENGTH = 11
# Not allowed in labels: control characters, and surrogates, which no file can store.
NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
MAX_SHOWN = 200
CACHED = 65_536


class ListedClip(NamedTuple):
    """One row of a list. (A named tuple: two million of these must be made in seconds.)"""

    clip_id: str
    split: str
    start_s: float
    end_s: float
    labels: tuple[str, ...]
    listed_in: str
    source: str | None = None  # path or URL, where the list names the file


def read_list(
    path: AnyPath,
    spec: ListSpec,
    videos: AnyPath | None = None,
    ids: FileIds | None = None,
    files: NamedFiles | None = None,
) -> Iterator[ListedClip]:
    """The clips of a list with the columns of `spec`, in order. Raises ListError at the first broken row.

    `videos` is the folder of the files that a list names, `files` completes their names; `ids` gives their ids, across
    lists.
    """
    reader = _RowReader(spec, path.name, videos, ids or FileIds({}), files)
    for line, row in numbered_rows(path, spec):
        try:
            yield reader.read(row, line)
        except ValueError as error:
            if not spec.titles and str(row[0]).strip().lower() in COLUMN_TITLES:
                continue
            raise ListError(
                f"{path}, line {line}: {error}. The line reads {shown(','.join(map(str, row)))}; its columns should "
                f"be {', '.join(spec.titles or spec.columns)}. Correct it, remove it, or put # before it."
            ) from error


def numbered_rows(path: AnyPath, spec: ListSpec) -> Iterator[NumberedRow]:
    """Line and cells, in the order of the spec's columns, of every row that is neither empty nor a comment."""
    if spec.titles:
        return rows_by_title(path, spec.titles)
    return rows_by_position(path, len(spec.columns))


def splits_in(path: AnyPath, spec: ListSpec) -> set[str]:
    """The splits that a list names."""
    if "split" not in spec.columns:
        return {spec.split}
    return {clip.split for clip in read_list(path, spec, Path())}


def shown(value: object) -> str:
    """The value for a message: quoted, without control characters, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


class _RowReader:
    """Converts rows of one list to clips. Column indices are looked up once: lists have two million rows."""

    def __init__(
        self, spec: ListSpec, file: str, videos: AnyPath | None, ids: FileIds, files: NamedFiles | None
    ) -> None:
        self._spec, self._file, self._width = spec, file, len(spec.columns)
        self._videos, self._ids, self._files = videos, ids, files
        at = {name: index for index, name in enumerate(spec.columns)}
        self._id, self._start, self._end = at.get("id"), at.get("start_s"), at.get("end_s")
        self._name, self._path, self._split = at.get("name"), at.get("file"), at.get("split")
        self._label, self._labels = at.get("label"), at.get("labels")

    def read(self, row: Sequence[Any], line: int) -> ListedClip:
        """Raises ValueError with the fault of the row."""
        if len(row) != self._width:
            raise ValueError(f"{len(row)} columns instead of {self._width}")
        clip_id, start_s = self._identity(row)
        end = None if self._end is None else row[self._end]
        end_s = start_s + DEFAULT_CLIP_S if end is None else _seconds(end)
        if not start_s < end_s <= start_s + MAX_CLIP_S:
            raise ValueError(
                f"the clip ends at {end_s:g} s and begins at {start_s:g} s; it should last up to {MAX_CLIP_S:g} s"
            )
        split = self._spec.split if self._split is None else self._checked_split(row[self._split])
        labels, source = self._all_labels(row), self._source(row)
        return ListedClip(clip_id, split, start_s, end_s, labels, f"{self._file}:{line}", source)

    def _identity(self, row: Sequence[Any]) -> tuple[str, float]:
        """Id and start, from their columns, from a clip's name, or from the name of a file."""
        if self._name is not None:
            match = CLIP_NAME.fullmatch(str(row[self._name]).strip())
            if match is None:
                raise ValueError(f"{shown(row[self._name])} names no clip; one is named like ID_000030.mp4")
            return self._checked_id(match["id"]), float(match["start_s"])
        start_s = 0.0 if self._start is None else _seconds(row[self._start])
        if self._id is None:
            assert self._path is not None, "the manifest checks the columns"
            path = self._named_file(row[self._path])
            source = self._source(row) or path
            return self._ids.of(source, path, is_plain="/" not in path), start_s
        return self._checked_id(row[self._id]), start_s

    def _checked_id(self, value: Any) -> str:
        clip_id = str(value).strip() if type(value) in (str, int) else ""
        if not SAFE_NAME.fullmatch(clip_id):
            if SPREADSHEET_ERROR.match(clip_id):
                raise ValueError(
                    f"{clip_id!r} is what a spreadsheet made of an id; take it from the official list"
                )
            fault = f"{shown(value)} is no id: 1 to 64 letters, digits, - and _ only"
            if self._spec.titles:
                title = self._spec.titles[self._spec.columns.index("id")]
                fault += f"; where the column names files, give --file-column {title}"
            raise ValueError(fault)
        if self._spec.youtube_ids and len(clip_id) != YOUTUBE_ID_LENGTH and clip_id.lstrip("-").isdigit():
            raise ValueError(
                f"{clip_id!r} is no YouTube id; a spreadsheet that took it for a number cut it short"
            )
        return clip_id

    def _all_labels(self, row: Sequence[Any]) -> tuple[str, ...]:
        if self._labels is None:
            return () if self._label is None else _checked_labels((row[self._label],))
        value = row[self._labels]
        return _labels_of_text(value) if isinstance(value, str) else _checked_labels(value or ())

    def _checked_split(self, value: Any) -> str:
        split = str(value).strip()
        if self._spec.splits and split not in self._spec.splits:
            raise ValueError(f"{shown(split)} is not one of the splits {', '.join(self._spec.splits)}")
        if not SAFE_NAME.fullmatch(split):
            raise ValueError(f"{shown(split)} is no name of a split: letters, digits, - and _ only")
        return split

    def _source(self, row: Sequence[Any]) -> str | None:
        if self._path is None:
            return None
        assert self._videos is not None, "lists that name files are read with the folder of the files"
        return str(self._videos / self._named_file(row[self._path]))

    def _named_file(self, value: Any) -> str:
        path = relative_path(value)
        return path if self._files is None else self._files.completed(path)


def _checked_labels(labels: Iterable[Any]) -> tuple[str, ...]:
    texts = [str(label).strip() for label in labels if label is not None]
    for text in texts:
        if NO_TEXT.search(text):
            raise ValueError(f"{shown(text)} is no label")
    return tuple(filter(None, texts))


# Cached, because times and sets of labels repeat in a list of two million rows.
@lru_cache(CACHED)
def _labels_of_text(text: str) -> tuple[str, ...]:
    return _checked_labels(text.split(","))


def _seconds(value: Any) -> float:
    if type(value) in (int, float):
        return _in_a_video(float(value), str(value))
    return _seconds_of_text(value if isinstance(value, str) else repr(value))


@lru_cache(CACHED)
def _seconds_of_text(text: str) -> float:
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        comma = "; its comma may stand for a point or for nothing" if re.fullmatch(r"\d+,\d+", text) else ""
        raise ValueError(f"{shown(text)} is no time in seconds{comma}") from None
    seconds = _in_a_video(seconds, text)
    if not PLAIN_NUMBER.fullmatch(text):
        raise ValueError(f"{shown(text)} is no time in plain notation, such as 30 or 30.000")
    return seconds


def _in_a_video(seconds: float, text: str) -> float:
    if not 0 <= seconds <= MAX_START_S:  # not a number is neither
        raise ValueError(f"{shown(text)} is no time in a video (0 to {MAX_START_S:.0f} s)")
    return seconds
