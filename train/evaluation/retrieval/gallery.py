"""A gallery: the list of clips that a retrieval ranks, and which of them a dataset has.

A clip may be named as lists in circulation name it: by key (ID_00030000), as VGGSound's test list and CAV-MAE's
manifests do (ID_000030, ID_000030.mp4), by id and start in two columns, or by the id alone where one clip has it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from cavsync.pipeline.dataset.schema import ClipState, clip_key
from cavsync.pipeline.lists.clip_list import CLIP_NAME, COLUMN_TITLES, MEDIA_SUFFIX
from cavsync.pipeline.lists.names import safe_id
from cavsync.pipeline.lists.tables import READERS, ListError, rows_by_position, titles_of
from cavsync.pipeline.lists.text import read_text
from cavsync.train.errors import EvaluationError
from cavsync.train.reporting.coverage import NOT_IN_DATASET, Coverage, Unusable

ID_TITLES = ("key", "clip", "clip_id", "name", *sorted(COLUMN_TITLES))
START_TITLES = ("start_s", "start_seconds", "start")
SUFFIX_AT_END = re.compile(rf"({MEDIA_SUFFIX})$")
AMBIGUOUS = "ambiguous"
KEY = re.compile(r"(?P<id>.+)_(?P<start_ms>[0-9]{8})")  # see pipeline.schema.clip_key


class GalleryEntry(NamedTuple):
    """One row: a name without a media file's suffix, and the start where the list has a column for it."""

    name: str
    start_s: float | None = None

    @property
    def shown(self) -> str:
        return self.name if self.start_s is None else clip_key(self.name, self.start_s)

    def possible_keys(self) -> list[str]:
        """The keys that this entry may mean, the likelier first."""
        if self.start_s is not None:
            return [clip_key(self.name, self.start_s)]
        timed, key = CLIP_NAME.fullmatch(self.name), KEY.fullmatch(self.name)
        return [
            self.name,
            *([clip_key(timed["id"], float(timed["start_s"]))] if timed else []),
            *([f"{key['id']}_{int(key['start_ms']) // 1000:06d}"] if key else []),
        ]

    def possible_ids(self) -> list[str]:
        """The clip ids that this entry may mean; a clip that is a file of its own has the file's name as its id."""
        if self.start_s is not None:
            return []
        path = PurePosixPath(self.name)
        return [self.name, path.name, safe_id(f"{self.name}.mp4")]


@dataclass(frozen=True)
class GalleryMatch:
    """The clips of a dataset that are in a gallery."""

    keys: Mapping[str, str]  # as the gallery names a clip -> its key
    coverage: Coverage


@dataclass(frozen=True)
class Gallery:
    path: Path
    entries: tuple[GalleryEntry, ...]  # each once

    @classmethod
    def read(cls, path: Path) -> "Gallery":
        """A CAV-MAE manifest, or a list as JSON, JSON Lines, Parquet, CSV or plain text.

        Raises EvaluationError for a file that lists no clip.
        """
        if not path.is_file():
            raise EvaluationError(
                f"{path} is no file; --gallery names a list of clips (JSON, CSV, Parquet, txt)."
            )
        try:
            entries = tuple(dict.fromkeys(_entries(path)))
        except ListError as error:
            raise EvaluationError(f"{error} --gallery names it.") from error
        if not entries:
            raise EvaluationError(f"{path} lists no clip.")
        return cls(path, entries)

    @property
    def ids_sha256(self) -> str:
        """Of the sorted ids: identifies a published gallery, whatever the format of its file."""
        return hashlib.sha256("\n".join(sorted(entry.shown for entry in self.entries)).encode()).hexdigest()

    def find(self, outcomes: pd.DataFrame, where: str) -> GalleryMatch:
        """`outcomes` has columns key, state and reason; `where` says for messages what they are of.

        Entries that mean one clip count once.
        """
        rows = _rows_by_name(outcomes, self.entries)
        found: dict[str, str] = {}  # key -> name
        unusable: dict[str, Unusable] = {}
        for entry in self.entries:
            matches = _matches(entry, rows)
            if len(matches) != 1:
                unusable[entry.shown] = _unclear(entry, matches, where)
                continue
            ((key, (state, reason)),) = matches.items()
            if state == ClipState.OK:
                found.setdefault(key, entry.shown)
            else:
                unusable[key] = Unusable(entry.shown, state, reason)
        coverage = Coverage(len(found) + len(unusable), tuple(unusable.values()), kind="clips")
        return GalleryMatch({name: key for key, name in found.items()}, coverage)


_Outcome = tuple[str, str]  # state, reason


def _rows_by_name(
    outcomes: pd.DataFrame, entries: Sequence[GalleryEntry]
) -> Mapping[str, dict[str, _Outcome]]:
    """Key or id -> key -> outcome, for the clips that an entry may mean; a dataset may have millions of others."""
    ids = outcomes["key"].str.rpartition("_")[0]
    keys_meant = {key for entry in entries for key in entry.possible_keys()}
    ids_meant = {clip_id for entry in entries for clip_id in entry.possible_ids()}
    meant = outcomes["key"].isin(keys_meant) | ids.isin(ids_meant)
    columns = (outcomes.loc[meant, name].astype(str).tolist() for name in ("key", "state", "reason"))
    rows: dict[str, dict[str, _Outcome]] = {}
    for key, state, reason in zip(*columns, strict=True):
        for name in {key, key.rpartition("_")[0]}:
            rows.setdefault(name, {})[key] = (state, reason)
    return rows


def _matches(entry: GalleryEntry, rows: Mapping[str, dict[str, _Outcome]]) -> dict[str, _Outcome]:
    """The clips that the entry means: by the first of its names that any clip has."""
    return next((rows[name] for name in (*entry.possible_keys(), *entry.possible_ids()) if name in rows), {})


def _unclear(entry: GalleryEntry, matches: Mapping[str, _Outcome], where: str) -> Unusable:
    if not matches:
        return Unusable(entry.shown, NOT_IN_DATASET, f"no clip of {where} is named {entry.shown}")
    example = min(matches)
    reason = f"{len(matches)} clips of {where} have the id {entry.shown}; name one, such as {example}"
    return Unusable(entry.shown, AMBIGUOUS, reason)


def _entries(path: Path) -> Iterator[GalleryEntry]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _of_json(path)
    if suffix in READERS:
        return (_of_record(path, number, record) for number, record in READERS[suffix](path, None))
    return _of_text(path)


def _of_json(path: Path) -> Iterator[GalleryEntry]:
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise EvaluationError(f"{path} is no JSON: {error}. Is the download complete?") from error
    listed = content.get("data") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise EvaluationError(
            f'{path} is no gallery: it should read {{"data": [{{"video_id": ...}}, ...]}}, as CAV-MAE\'s, or '
            '["ID_000030", ...].'
        )
    for number, one in enumerate(listed, 1):
        yield _of_record(path, number, one if isinstance(one, dict) else {"id": one})


def _of_record(path: Path, number: int, record: Mapping[str, Any]) -> GalleryEntry:
    titled = {title.lower(): value for title, value in record.items()}
    name = next((titled[title] for title in ID_TITLES if titled.get(title)), None)
    start = next((titled[title] for title in START_TITLES if titled.get(title) is not None), None)
    return _entry(path, number, name, start)


def _of_text(path: Path) -> Iterator[GalleryEntry]:
    """CSV with or without a header, or one name a line."""
    header = titles_of(path)
    titles = [title.lower() for title in header]
    id_column = next((titles.index(title) for title in ID_TITLES if title in titles), None)
    start_column = next((titles.index(title) for title in START_TITLES if title in titles), None)
    for line, row in rows_by_position(path, len(header)):
        if (
            id_column is None
        ):  # the name comes first, then perhaps the start, as in AudioSet's and VGGSound's lists
            start = row[1] if len(row) > 1 and _seconds(row[1]) is not None else None
            yield _entry(path, line, row[0], start)
        elif [cell.strip() for cell in row] != header:
            yield _entry(path, line, row[id_column], None if start_column is None else row[start_column])


def _entry(path: Path, number: int, name: Any, start: Any) -> GalleryEntry:
    text = SUFFIX_AT_END.sub("", str(name).strip()) if isinstance(name, str | int) else ""
    start_s = None if start is None else _seconds(start)
    if not text or (start is not None and start_s is None):
        raise EvaluationError(
            f"{path}, row {number}: {name!r}{'' if start is None else f' from {start!r} s'} names no clip. A gallery's "
            f"column of names is titled one of {', '.join(ID_TITLES)}, or comes first."
        )
    return GalleryEntry(text, start_s)


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
