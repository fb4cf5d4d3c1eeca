"""Completes the names of files in lists: a name without a suffix is the file of that name with a suffix of video."""

from collections.abc import Callable
from functools import cached_property
from pathlib import PurePosixPath

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.lists.media_folder import find_media
from cavsync.pipeline.media.demuxing.formats import MEDIA_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath


class NamedFiles:
    """The files below the folder of the videos; the folder is searched when the first name without a suffix comes."""

    def __init__(self, videos: AnyPath, archives: ArchiveSet | None = None) -> None:
        self._videos, self._archives = videos, archives or ArchiveSet(videos)

    def completed(self, path: str) -> str:
        """The path of the file that a path without a suffix names; unchanged where it names one, or none is there.

        A name without a folder is looked for in sub-folders too, where the folder itself has no file of that name.
        Raises ValueError where several files have that name.
        """
        name = str(PurePosixPath(path))
        fits = (
            []
            if suffix_of(path) in MEDIA_SUFFIXES
            else self._by_path.get(name) or self._by_stem.get(name, [])
        )
        if not fits or self._archives.is_there(str(self._videos / path)):
            return path
        if len(fits) > 1:
            raise ValueError(f"{path!r} may be {' or '.join(fits)}; write the whole path")
        return fits[0]

    def source(self, source: str) -> str:
        """The path or URL of the file that a planned one names by now, as `completed`; unchanged where several do."""
        root = f"{self._videos}/"
        if not source.startswith(root) or suffix_of(source) in MEDIA_SUFFIXES:
            return source
        try:
            return str(self._videos / self.completed(source.removeprefix(root)))
        except ValueError:
            return source

    @cached_property
    def _found(self) -> list[str]:
        try:
            return find_media(self._videos, VIDEO_SUFFIXES, self._archives).paths
        except StoreError:  # a server that lists no files
            return []

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        """Path without its suffix -> paths of the files."""
        return _grouped(self._found, lambda path: str(path.with_suffix("")))

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Name without folder and suffix -> paths of the files."""
        return _grouped(self._found, lambda path: path.stem)


def _grouped(paths: list[str], name_of: Callable[[PurePosixPath], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(name_of(PurePosixPath(path)), []).append(path)
    return groups
