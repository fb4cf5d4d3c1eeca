"""Completes the names of files in lists: a name without a suffix is the file of that name with a suffix of video."""

from functools import cached_property
from pathlib import PurePosixPath

from cavsync.pipeline.lists.media_folder import find_media
from cavsync.pipeline.lists.videos import is_there
from cavsync.pipeline.media.demuxing.formats import MEDIA_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath


class NamedFiles:
    """The files below the folder of the videos; the folder is searched when the first name without a suffix comes."""

    def __init__(self, videos: AnyPath) -> None:
        self._videos = videos

    def completed(self, path: str) -> str:
        """The path with the suffix of the file that it names; unchanged where it names one, or none is there.

        Raises ValueError where several files have that name.
        """
        fits = [] if suffix_of(path) in MEDIA_SUFFIXES else self._by_name.get(str(PurePosixPath(path)), [])
        if not fits or is_there(str(self._videos / path)):
            return path
        if len(fits) > 1:
            raise ValueError(f"{path!r} may be {' or '.join(fits)}; write the suffix too")
        return fits[0]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Path without its suffix -> paths of the files."""
        named: dict[str, list[str]] = {}
        try:
            found = find_media(self._videos, VIDEO_SUFFIXES).paths
        except StoreError:  # a server that lists no files
            found = []
        for path in found:
            named.setdefault(str(PurePosixPath(path).with_suffix("")), []).append(path)
        return named
