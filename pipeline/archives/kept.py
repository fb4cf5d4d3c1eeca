"""Keeps the content of an archive beside a dataset: Parquet of its members and seek points, and a file of windows.

An index holds as long as the archive has the size and the time of change, or the tag of its store, that it was made from.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cavsync.pipeline.archives.content import ArchiveContent, MemberRow
from cavsync.pipeline.storage.atomic import AtomicWriter
from cavsync.pipeline.storage.inflate import SeekPoint
from cavsync.pipeline.storage.parquet import DamagedFileError, damage_named
from cavsync.pipeline.storage.path import AnyPath, readable

# Of the files below; another one is made anew.
VERSION = 1
METADATA = b"cavsync"
_MEMBER_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("storage", pa.string()),
        ("start", pa.int64()),
        ("num_bytes", pa.int64()),
        ("num_packed_bytes", pa.int64()),
        ("crc", pa.int64()),
        ("fault", pa.string()),
    ]
)
_POINT_SCHEMA = pa.schema([(name, pa.int64()) for name in ("bit", "first", "window_start", "window_stop")])
_MOST_NAME = 40


@dataclass(frozen=True)
class KeptIndex:
    """The files that keep one archive's content."""

    folder: AnyPath
    name: str

    @classmethod
    def of(cls, folder: AnyPath, path: str) -> "KeptIndex":
        """`path` is the archive's below the folder of the videos."""
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", path.rpartition("/")[2])[:_MOST_NAME]
        return cls(folder, f"{stem}-{hashlib.sha256(path.encode(errors='replace')).hexdigest()[:12]}")

    @property
    def windows(self) -> AnyPath:
        return self.folder / f"{self.name}.windows"

    @property
    def _members(self) -> AnyPath:
        return self.folder / f"{self.name}.parquet"

    @property
    def _points(self) -> AnyPath:
        return self.folder / f"{self.name}.points.parquet"

    def read(self, stamp: str) -> ArchiveContent | None:
        """The content, where it was kept of an archive with that stamp."""
        if not self._members.is_file():
            return None
        try:
            with damage_named(self._members, ""):
                table = pq.read_table(readable(self._members))
                facts = json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
                if facts.get("stamp") != stamp or facts.get("version") != VERSION:
                    return None
                points = pq.read_table(readable(self._points)) if facts["has_points"] else None
        except DamagedFileError:  # it is made again
            return None
        return ArchiveContent(
            facts["num_bytes"],
            [MemberRow(**row) for row in table.to_pylist()],
            {(reason, suffix): number for reason, suffix, number in facts["left_out"]},
            facts["damage"],
            [] if points is None else _seek_points(points),
        )

    def write(self, content: ArchiveContent, stamp: str) -> None:
        """Keep the content; the windows of its points are there already."""
        facts = {
            "version": VERSION,
            "stamp": stamp,
            "num_bytes": content.num_bytes,
            "left_out": [[*key, number] for key, number in sorted(content.left_out.items())],
            "damage": content.damage,
            "has_points": bool(content.points),
        }
        if content.points:
            rows = [(point.bit, point.first, *point.window) for point in content.points]
            _write(self._points, _table(rows, _POINT_SCHEMA))
        members = _table(content.members, _MEMBER_SCHEMA)
        _write(self._members, members.replace_schema_metadata({METADATA: json.dumps(facts)}))


def _table(rows: Iterable[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _seek_points(table: pa.Table) -> list[SeekPoint]:
    columns = [table[name].to_pylist() for name in _POINT_SCHEMA.names]
    return [SeekPoint(bit, first, (start, stop)) for bit, first, start, stop in zip(*columns, strict=True)]


def _write(path: AnyPath, table: pa.Table) -> None:
    with AtomicWriter(path) as output:
        pq.write_table(table, output.file)
        output.publish()
