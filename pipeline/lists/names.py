"""Checks names from lists and folders before they become parts of paths."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

# Ids, splits and datasets have YouTube's alphabet; up to 64 characters, as ids of other datasets are longer than 11.
# A key is a file name up to its first dot, and a tar header has room for 100 characters.
MAX_NAME = 64
SAFE_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
# Not allowed in a listed path, nor is the backslash: control characters and surrogates.
UNSAFE_IN_PATH = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
MAX_PATH, MAX_PART = 1024, 255  # bytes, within what file systems take


def relative_path(value: Any) -> str:
    """The path, unchanged. Raises ValueError for a path that could leave its folder or names no file."""
    text = value.strip() if isinstance(value, str) else ""
    fault = _fault_of_path(text)
    if fault is not None:
        raise ValueError(f"{str(value)[:80]!r} is no path below the folder of the videos: {fault}")
    return text


def _fault_of_path(text: str) -> str | None:
    parts = PurePosixPath(text).parts
    if not parts:
        return "it is empty"
    if text.startswith("/") or ".." in parts:
        return "it leads out of the folder"
    if "\\" in text:
        return "it has a backslash; write / between folders"
    if UNSAFE_IN_PATH.search(text):
        return "it has a newline or another character that cannot be printed; rename the file"
    if len(text.encode()) > MAX_PATH or max(len(part.encode()) for part in parts) > MAX_PART:
        return f"it is longer than file systems take ({MAX_PATH:,} bytes, {MAX_PART} a part)"
    return None


def safe_id(path: str) -> str:
    """The id of a listed file, if no other file has its name: the name where that is a safe id, else with a hash."""
    return FileIds({}).of(path, path, is_plain="/" not in path)


def hashed_id(path: str, num_digits: int = 8) -> str:
    """The safe characters of the file's name, and a hash of its path with that number of hexadecimal digits."""
    stem = UNSAFE.sub("_", PurePosixPath(path).stem)[: MAX_NAME - 1 - num_digits]
    return f"{stem}-{hashlib.sha256(path.encode()).hexdigest()[:num_digits]}"


class FileIds:
    """Gives every file an id of its own: `c.mp4` and `c.mov` are two files, and so are `a/c.mp4` and `b/c.mp4`.

    The first file of a name gets the name, the others get it with a hash of their paths. Files of a plan keep their
    ids, whichever files are found beside them later.
    """

    def __init__(self, planned: Mapping[str, str]) -> None:
        """`planned` has the ids of the plan's sources."""
        self._ids, self._taken = dict(planned), set(planned.values())

    def of(self, source: str, path: str, *, is_plain: bool) -> str:
        """The id of a file with that path below the folder; `is_plain` allows the file's name alone."""
        if source not in self._ids:
            stem = PurePosixPath(path).stem
            names = [stem] if is_plain and SAFE_NAME.fullmatch(stem) else []
            names += [hashed_id(path, num_digits) for num_digits in (8, 16, 32)]
            self._ids[source] = next(name for name in names if name not in self._taken)
            self._taken.add(self._ids[source])
        return self._ids[source]
