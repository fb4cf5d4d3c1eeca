"""Names that lists and folders bring along, and what of them may become part of a path."""

import hashlib
import re
from pathlib import PurePosixPath
from typing import Any

# Ids, splits and datasets: YouTube's alphabet; longer than its 11 characters because other people's ids are.
# A key is a file name up to its first dot, and a tar header has room for 100 characters.
MAX_NAME = 64
SAFE_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
# Not in a path that a list names: control characters, halves of characters, and the other system's separator.
UNSAFE_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
MAX_PATH, MAX_PART = 1024, 255  # bytes, within what file systems take


def relative_path(value: Any) -> str:
    """The path as it stands. Raises ValueError for one that could lead out of its folder, or to no file."""
    text = value.strip() if isinstance(value, str) else ""
    parts = PurePosixPath(text).parts
    unsafe = not parts or text.startswith("/") or ".." in parts or UNSAFE_IN_PATH.search(text)
    if unsafe or len(text.encode()) > MAX_PATH or max(len(part.encode()) for part in parts) > MAX_PART:
        raise ValueError(f"{str(value)[:80]!r} is no path below the folder of the videos")
    return text


def safe_id(path: str) -> str:
    """An id for a file: its name, where that is one; else the name with a hash of its path, which makes it one."""
    parent, stem = PurePosixPath(path).parent, PurePosixPath(path).stem
    if parent == PurePosixPath() and SAFE_NAME.fullmatch(stem):
        return stem
    return hashed_id(path)


def hashed_id(path: str) -> str:
    """What is safe in the file's name, and a hash of its path."""
    stem = UNSAFE.sub("_", PurePosixPath(path).stem)[: MAX_NAME - 9]
    return f"{stem}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
