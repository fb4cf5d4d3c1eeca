"""Finds the media files below a folder and in its archives; what is left out is counted by reason and suffix.

Links to folders are followed. A folder that can be reached in several ways is searched once: under its own path if it
lies in the folder itself, else by the first link to it in order of path. A link to a folder that holds the link is a
circle and is not followed.
"""

import heapq
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.archives.content import ArchiveContent
from cavsync.pipeline.archives.names import is_archive_name, is_other_archive_name
from cavsync.pipeline.media.demuxing.formats import AUDIO_SUFFIXES, suffix_of
from cavsync.pipeline.storage.path import AnyPath
from cavsync.pipeline.storage.remote_path import RemotePath

# Reasons for which a file or folder is left out.
OTHER_SUFFIX = "not a suffix of video or audio"
AUDIO_ALONE = "a suffix of audio without video"
HIDDEN = "hidden"
BROKEN_LINK = "broken link"
NO_REGULAR_FILE = "no regular file"
BAD_NAME = "a name that is not UTF-8; rename it"
SEARCHED_BEFORE = "a folder that is searched under another path"
NAMED_BEFORE = "named before in the list"
NOT_READABLE = "no permission to list it"
OTHER_ARCHIVE = "an archive of a kind that is not read; unpack it, or pack it as .tar"
# In place of a suffix.
FOLDER = "/"
MAX_SHOWN = 12


@dataclass(frozen=True)
class LeftOut:
    """What was found and is not listed."""

    counts: Mapping[tuple[str, str], int] = field(
        default_factory=dict
    )  # (reason, suffix or FOLDER) -> number

    def __bool__(self) -> bool:
        return bool(self.counts)

    def records(self) -> list[dict[str, Any]]:
        """For JSON, in order of reason and suffix."""
        return [
            {"reason": reason, "suffix": suffix, "number": number}
            for (reason, suffix), number in sorted(self.counts.items())
        ]

    def describe(self) -> str:
        """Such as "3 txt, 1 jpg (not a suffix of video or audio), 1 mp4 (hidden)"; empty for nothing."""
        reasons = Counter[str]()
        for (reason, _), number in self.counts.items():
            reasons[reason] += number
        return ", ".join(f"{self._by_suffix(reason)} ({reason})" for reason, _ in reasons.most_common())

    def _by_suffix(self, wanted: str) -> str:
        counts = Counter({suffix: n for (reason, suffix), n in self.counts.items() if reason == wanted})
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{number:,} {_words(suffix)}" for suffix, number in ordered[:MAX_SHOWN]]
        rest = sum(number for _, number in ordered[MAX_SHOWN:])
        return ", ".join(shown + ([f"{rest:,} of other suffixes"] if rest else []))


@dataclass(frozen=True)
class FoundMedia:
    """Paths relative to the folder, sorted, and the count of what is left out."""

    paths: list[str]
    left_out: LeftOut
    damaged: Sequence[str] = ()  # a sentence for each archive whose members are not all known


def find_media(root: AnyPath, suffixes: Collection[str], archives: ArchiveSet | None = None) -> FoundMedia:
    """The files below `root` that have one of the suffixes, in any case, and are not hidden.

    With `archives`, those in archives too: below a folder, or in the archive that `root` is.
    """
    search = _Search(suffixes, archives is not None)
    if archives is not None and archives.is_archive(root):
        search.archive("", root, archives.content(root))
    elif isinstance(root, RemotePath):
        search.names(root.files_below())
    else:
        search.folder(os.path.realpath(root))
    if archives is not None:
        below = sorted(search.archives)
        for name, content in zip(below, archives.contents([root / name for name in below]), strict=True):
            search.archive(f"{name}/", root / name, content)
    return FoundMedia(sorted(search.found), LeftOut(dict(search.left_out)), search.damaged)


class _Search:
    def __init__(self, suffixes: Collection[str], with_archives: bool) -> None:
        self._suffixes, self._with_archives = suffixes, with_archives
        self.found: list[str] = []
        self.archives: list[str] = []
        self.damaged: list[str] = []
        self.left_out: Counter[tuple[str, str]] = Counter()
        self._searched: set[str] = set()  # real paths of folders
        self._links: list[tuple[str, str]] = []  # to folders: relative path, real path; a heap

    def names(self, names: Iterable[str]) -> None:
        """Files of a store or an archive, whose links and folders need no search."""
        for name in names:
            is_hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
            self._file(name, HIDDEN if is_hidden else None)

    def archive(self, begin: str, path: AnyPath, content: ArchiveContent) -> None:
        """The members of an archive; their paths begin with `begin`."""
        self.names(f"{begin}{member.name}" for member in content.members)
        self.left_out.update(content.left_out)
        if content.damage is not None:
            self.damaged.append(f"{path} is damaged: {content.damage}.")

    def folder(self, real: str) -> None:
        """A folder of this machine, by its real path, with all below it and what its links reach."""
        self._walk(real, "", is_hidden=False)
        while self._links:
            link, target = heapq.heappop(self._links)
            self._walk(target, link, is_hidden=False)

    def _walk(self, real: str, path: str, *, is_hidden: bool) -> None:
        """Everything below the folder; links to folders wait, since a folder's own path comes before links to it."""
        waiting = [(real, path, is_hidden)]
        while waiting:
            real, path, is_hidden = waiting.pop()
            if real in self._searched:
                self._leave_out(SEARCHED_BEFORE, FOLDER)
                continue
            self._searched.add(real)
            for entry in self._entries(real):
                below = f"{path}/{entry.name}" if path else entry.name
                hidden = is_hidden or entry.name.startswith(".")
                if not _is_folder(entry):
                    self._file(below, HIDDEN if hidden else _fault(entry))
                elif not entry.is_symlink():
                    waiting.append((entry.path, below, hidden))
                else:
                    self._link(entry.path, below, hidden)

    def _entries(self, real: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(real) as entries:
                return list(entries)
        except OSError:
            self._leave_out(NOT_READABLE, FOLDER)
            return []

    def _link(self, link: str, path: str, is_hidden: bool) -> None:
        target = os.path.realpath(link)
        holds_link = f"{os.path.dirname(link)}/".startswith(f"{target.rstrip('/')}/")
        if is_hidden or holds_link:
            self._leave_out(HIDDEN if is_hidden else SEARCHED_BEFORE, FOLDER)
        else:
            heapq.heappush(self._links, (path, target))

    def _file(self, path: str, fault: str | None) -> None:
        suffix = suffix_of(path)
        if fault is None and self._with_archives and is_archive_name(path):
            self.archives.append(path)
            return
        if fault is None and suffix not in self._suffixes:
            fault = self._fault_of_suffix(path, suffix)
        if fault is None and not _is_utf8(path):
            fault = BAD_NAME
        if fault is None:
            self.found.append(path)
        else:
            self._leave_out(fault, suffix)

    def _fault_of_suffix(self, path: str, suffix: str) -> str:
        if self._with_archives and is_other_archive_name(path):
            return OTHER_ARCHIVE
        return AUDIO_ALONE if suffix in AUDIO_SUFFIXES else OTHER_SUFFIX

    def _leave_out(self, reason: str, suffix: str) -> None:
        self.left_out[reason, suffix.removeprefix(".").encode(errors="replace").decode()] += 1


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links
        return False


def _fault(entry: "os.DirEntry[str]") -> str | None:
    """What is wrong with an entry that is no folder."""
    try:
        if entry.is_file():
            return None
    except OSError:
        return BROKEN_LINK
    is_broken = entry.is_symlink() and not os.path.exists(entry.path)
    return BROKEN_LINK if is_broken else NO_REGULAR_FILE


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _words(suffix: str) -> str:
    return {FOLDER: "folder", "": "without a suffix"}.get(suffix, suffix)
