"""The archives below the folder of the videos: their contents, and the paths of their members.

The members of an archive are listed once and kept in the dataset's folder, until the archive changes.
"""

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from cavsync.pipeline.archives.content import ArchiveContent
from cavsync.pipeline.archives.gzip_members import stop_readers
from cavsync.pipeline.archives.kept import KeptIndex
from cavsync.pipeline.archives.names import is_archive_name, splits_at_archives
from cavsync.pipeline.archives.reading import read_archive
from cavsync.pipeline.storage.filesystem import MAX_REQUESTS
from cavsync.pipeline.storage.member_path import MemberPath
from cavsync.pipeline.storage.path import AnyPath, MediaPath, as_path, stamp
from cavsync.pipeline.storage.remote_path import RemotePath


class ArchiveSet:
    """Finds what archives hold, keeping it in `kept_in`; without that, for as long as this object lives."""

    def __init__(self, root: AnyPath, kept_in: AnyPath | None = None, *, only_kept: bool = False) -> None:
        """`root` is the folder of the videos, or one archive. With `only_kept`, archives that were not listed before, or
        changed since, count as empty.
        """
        self._root = str(root.resolve())
        # Absolute: another machine has another working folder.
        self._kept_in = None if kept_in is None else kept_in.absolute()
        self._only_kept = only_kept
        self._are_archives: dict[str, bool] = {}
        self._contents: dict[str, ArchiveContent] = {}
        self._stamps: dict[str, str] = {}

    def is_archive(self, path: AnyPath) -> bool:
        """Whether the path names an archive by its suffix, and is a file."""
        if not is_archive_name(path.name):
            return False
        key = str(path)
        if key not in self._are_archives:
            self._are_archives[key] = path.is_file()
        return self._are_archives[key]

    def contents(self, archives: Sequence[AnyPath]) -> list[ArchiveContent]:
        """The contents of archives, several of which are listed at a time."""
        if not archives:
            return []
        most = len(os.sched_getaffinity(0)) if isinstance(archives[0], Path) else MAX_REQUESTS
        pool = ThreadPoolExecutor(most)
        try:
            return list(pool.map(self.content, archives))
        except BaseException:
            stop_readers()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def content(self, archive: AnyPath) -> ArchiveContent:
        """The members of an archive. Raises FileNotFoundError for one that is not there."""
        key = str(archive)
        if key not in self._contents:
            self._contents[key] = self._kept_or_read(archive)
        return self._contents[key]

    def path_of(self, source: str) -> MediaPath:
        """The path that a path or URL names, which may lead into an archive."""
        for name, inside in splits_at_archives(source):
            archive = as_path(name)
            if self.is_archive(archive):
                is_http = isinstance(archive, RemotePath) and archive.is_http
                return self._member(archive, unquote(inside) if is_http else inside)
        return as_path(source)

    def members(self, sources: Iterable[str | None]) -> Mapping[str, MemberPath]:
        """Those of the sources that are in archives."""
        paths = {source: self.path_of(source) for source in sources if source is not None}
        return {source: path for source, path in paths.items() if isinstance(path, MemberPath)}

    def is_there(self, source: str) -> bool:
        """Whether a path or URL names a file, here, at a URL or in an archive."""
        path = self.path_of(source)
        return os.path.isfile(path) if isinstance(path, Path) else path.is_file()

    def _member(self, archive: AnyPath, inside: str) -> MemberPath:
        content, kept = self.content(archive), self._kept(archive)
        member = content.by_name.get(inside)
        if member is None:
            return MemberPath(archive, inside, None, content.num_bytes)
        place = content.place(member, kept.windows)
        # At a URL another request for each clip would ask for it.
        known = self._stamps[str(archive)] if isinstance(archive, Path) else ""
        return MemberPath(archive, inside, place, content.num_bytes, known, member.fault)

    def _kept_or_read(self, archive: AnyPath) -> ArchiveContent:
        kept, now = self._kept(archive), stamp(archive)
        self._stamps[str(archive)] = now
        content = kept.read(now)
        if content is None and self._only_kept:
            return ArchiveContent(0)
        if content is None:
            content = read_archive(archive, kept.windows, _announce)
            kept.write(content, now)
        return content

    def _kept(self, archive: AnyPath) -> KeptIndex:
        path = str(archive).removeprefix(f"{self._root}/")
        folder = Path(self._temporary.name) if self._kept_in is None else self._kept_in
        return KeptIndex.of(folder, archive.name if path == self._root else path)

    @cached_property
    def _temporary(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="cavsync-archives-")


def _announce(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
