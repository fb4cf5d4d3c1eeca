"""Which files are archives, by name, and which names their members may have."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

# Archives that are read, and those that are named when a folder holds them.
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
OTHER_ARCHIVE_SUFFIXES = (".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
# The end of an archive's name within a path; a URL may have a query there.
_ARCHIVE_PART = re.compile(r"\.(?:tar|tar\.gz|tgz|zip)(?:\?[^/]*)?(?=/)", re.IGNORECASE)
# Control characters and surrogates, which no list can name, and the backslash, which leads elsewhere on some systems.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")


def is_archive_name(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def is_other_archive_name(name: str) -> bool:
    """Whether the name is that of an archive of a kind that is not read."""
    return name.lower().endswith(OTHER_ARCHIVE_SUFFIXES)


def splits_at_archives(source: str) -> Iterator[tuple[str, str]]:
    """(archive, path in it) for every part of a path or URL, but the last, that may be an archive by its name."""
    for match in _ARCHIVE_PART.finditer(source):
        yield source[: match.end()], source[match.end() + 1 :]


def without_archives(path: str) -> str:
    """The path as if its archives were unpacked where they lie."""
    parts = path.split("/")
    return "/".join([part for part in parts[:-1] if not is_archive_name(part)] + parts[-1:])


def member_name(raw: str) -> str | None:
    """The name in the one form that is used: `./a//b` is `a/b`. None for one that could lead out of a folder."""
    path = PurePosixPath(raw)
    if path.is_absolute() or ".." in path.parts or not path.parts or _UNUSABLE.search(raw):
        return None
    return str(path)
