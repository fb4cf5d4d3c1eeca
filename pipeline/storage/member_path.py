"""A file inside an archive, with the part of pathlib's interface that reading media needs.

It says where in the archive its bytes are, as the archive's index found them, so that it is read there, in any process,
and nothing is unpacked to a folder.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cavsync.pipeline.storage.inflate import SeekPoint
from cavsync.pipeline.storage.member_file import (
    ArchiveChangedError,
    GzipSpanFile,
    MemberError,
    SpanFile,
    inflated_entry,
    zip_content_start,
)
from cavsync.pipeline.storage.remote_path import RemotePath


@dataclass(frozen=True)
class StoredSpan:
    """The bytes lie in the archive as they are, as in a tar."""

    start: int
    num_bytes: int


@dataclass(frozen=True)
class ZipEntry:
    """The bytes follow the entry's local header, as they are or deflated."""

    header: int  # where that begins
    num_bytes: int
    num_packed_bytes: int
    is_deflated: bool
    crc: int


@dataclass(frozen=True)
class GzipSpan:
    """The bytes are a part of the stream that the archive unpacks to."""

    start: int  # in the stream
    num_bytes: int
    points: tuple[SeekPoint, ...]  # the last one at or before `start`, and those up to the end
    windows: Path | RemotePath  # the file with the windows of the points


Place = StoredSpan | ZipEntry | GzipSpan


@dataclass(frozen=True)
class MemberPath:
    """A member of an archive; `place` is None where the archive has none of that name."""

    archive: Path | RemotePath
    inside: str  # its path in the archive
    place: Place | None
    archive_bytes: int  # as the index knows it
    stamp: str = ""  # of the archive, as the index knows it; empty where only its length is compared
    fault: str | None = None  # why the member cannot be read though it is there

    def __str__(self) -> str:
        inside = self.archive.quoted(self.inside) if isinstance(self.archive, RemotePath) else self.inside
        return f"{self.archive}/{inside}"

    def is_file(self) -> bool:
        return self.place is not None

    def exists(self) -> bool:
        return self.place is not None

    def num_bytes(self) -> int:
        return self._present().num_bytes

    def read_range(self, start: int, stop: int) -> bytes:
        with self.open("rb") as file:
            file.seek(start)
            content: bytes = file.read(max(0, stop - start))
            if file.failure is not None:
                raise file.failure
            return content

    def open(self, mode: Literal["rb"]) -> SpanFile | GzipSpanFile:
        """Raises FileNotFoundError where archive or member are gone, MemberError where the member cannot be read, and
        ArchiveChangedError where the archive is another one than in its index.
        """
        place = self._present()
        if self.fault is not None:
            raise MemberError(f"{self.fault} (in {self.archive})")
        file = self._opened()
        try:
            return self._content(file, place)
        except BaseException:
            file.close()
            raise

    def _content(self, file: Any, place: Place) -> SpanFile | GzipSpanFile:
        name = str(self.archive)
        if isinstance(place, GzipSpan):
            return GzipSpanFile(file, name, place.start, place.num_bytes, place.points, place.windows)
        if isinstance(place, StoredSpan):
            self._require_within(place.start + place.num_bytes)
            return SpanFile(file, name, place.start, place.num_bytes)
        self._require_within(place.header + place.num_packed_bytes)
        start = zip_content_start(file, place.header, name)
        if not place.is_deflated:
            return SpanFile(file, name, start, place.num_bytes)
        content = inflated_entry(file, name, start, place.num_packed_bytes, place.num_bytes, place.crc)
        file.close()
        return SpanFile(content, name, 0, place.num_bytes)

    def _present(self) -> Place:
        if self.place is None:
            raise FileNotFoundError(f"{self} is not there")
        return self.place

    def _opened(self) -> Any:
        try:
            file = self.archive.open("rb")
        except NotADirectoryError as error:
            raise FileNotFoundError(f"{self.archive} is not there") from error
        num_bytes = file.seek(0, os.SEEK_END)
        is_same_file = not self.stamp or file_stamp(os.stat(file.fileno())) == self.stamp
        if num_bytes != self.archive_bytes or not is_same_file:
            file.close()
            raise ArchiveChangedError(
                f"{self.archive} has changed since its members were listed. Repeat the command, which lists them again."
            )
        return file

    def _require_within(self, stop: int) -> None:
        if stop > self.archive_bytes:
            raise MemberError(
                f"{self.archive} is cut off: it ends at byte {self.archive_bytes:,}, inside this member, which ends at byte {stop:,}"
            )


def file_stamp(facts: os.stat_result) -> str:
    """Changes with the content of a file on this machine."""
    return f"{facts.st_size} {facts.st_mtime_ns}"
