"""Finds the files that VIDEO, FOLDER or LIST stands for."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cavsync.errors import CavsyncError
from cavsync.pipeline.lists.media_folder import NAMED_BEFORE, LeftOut, find_media
from cavsync.pipeline.lists.text import read_text
from cavsync.pipeline.media.demuxing.formats import MEDIA_SUFFIXES, suffix_list, suffix_of

LIST_SUFFIXES = {".txt", ".lst"}
# A text of this size or more is no list.
MAX_LIST_BYTES = 100 * 2**20


class SourceListError(CavsyncError):
    """Nothing to embed where the user pointed."""


@dataclass(frozen=True)
class MediaFiles:
    """Files of a folder by suffix, of a list by line, or one file; each once."""

    source: Path
    paths: list[Path]
    left_out: LeftOut

    def describe(self) -> str:
        """The number of files, in all and by suffix, and of those left out."""
        counts = Counter(suffix_of(path.name).removeprefix(".") or "without a suffix" for path in self.paths)
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in counts.most_common())
        left_out = f"; left out: {self.left_out.describe()}" if self.left_out else ""
        return f"{len(self.paths):,} files in {self.source} ({kinds}){left_out}"


def list_files(source: Path) -> MediaFiles:
    """The media of a folder and its sub-folders by suffix, the lines of a .txt list, or the one file, whatever its suffix."""
    if source.is_dir():
        return _in_folder(source)
    if not source.is_file():
        what = "no regular file" if os.path.lexists(source) and source.exists() else "not there"
        raise SourceListError(
            f"{source} is {what}: give a video, a folder, or a .txt list with a path in each line."
        )
    return (
        _listed(source)
        if suffix_of(source.name) in LIST_SUFFIXES
        else MediaFiles(source, [source], LeftOut())
    )


def _in_folder(source: Path) -> MediaFiles:
    found = find_media(source, MEDIA_SUFFIXES)
    if not found.paths:
        left_out = f" Left out: {found.left_out.describe()}." if found.left_out else ""
        raise SourceListError(
            f"{source} holds no video and no audio file; known suffixes are {suffix_list(MEDIA_SUFFIXES)}.{left_out}"
        )
    return MediaFiles(source, [source / path for path in found.paths], found.left_out)


def _listed(source: Path) -> MediaFiles:
    """Paths relative to the list's folder; empty lines and those that begin with # are left out."""
    if source.stat().st_size > MAX_LIST_BYTES:
        raise SourceListError(f"{source} is too large for a list of paths.")
    try:
        lines = [line.strip() for line in read_text(source).split("\n")]
    except UnicodeDecodeError as error:
        raise SourceListError(
            f"{source} is no text in UTF-8; a list has the path of a file in each line."
        ) from error
    named = [source.parent / line for line in lines if line and not line.startswith("#")]
    if not named:
        raise SourceListError(f"{source} names no file; a list has the path of a file in each line.")
    paths = list(dict.fromkeys(named))
    again = Counter(named) - Counter(paths)
    counts = Counter[tuple[str, str]]()
    for path, number in again.items():
        counts[NAMED_BEFORE, suffix_of(path.name).removeprefix(".")] += number
    return MediaFiles(source, paths, LeftOut(dict(counts)))
