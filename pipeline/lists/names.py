"""Checks names from lists and folders before they become parts of paths."""

import hashlib
import re
from pathlib import PurePosixPath
from typing import Any

# Ids, splits and datasets have YouTube's alphabet; up to 64 characters, as ids of other datasets are longer than 11.
# A key is a file name up to its first dot, and a tar header has room for 100 characters.
MAX_NAME = 64
SAFE_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
# Not allowed in a listed path: control characters, surrogates, and the backslash.
UNSAFE_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
MAX_PATH, MAX_PART = 1024, 255  # bytes, within what file systems take


def relative_path(value: Any) -> str:
    """The path, unchanged. Raises ValueError for a path that could leave its folder or names no file."""
    text = value.strip() if isinstance(value, str) else ""
    parts = PurePosixPath(text).parts
    unsafe = not parts or text.startswith("/") or ".." in parts or UNSAFE_IN_PATH.search(text)
    if unsafe or len(text.encode()) > MAX_PATH or max(len(part.encode()) for part in parts) > MAX_PART:
        raise ValueError(f"{str(value)[:80]!r} is no path below the folder of the videos")
    return text


def safe_id(path: str) -> str:
    """An id for a file: its name where that is a safe id, else the name with a hash of its path."""
    parent, stem = PurePosixPath(path).parent, PurePosixPath(path).stem
    if parent == PurePosixPath() and SAFE_NAME.fullmatch(stem):
        return stem
    return hashed_id(path)


def hashed_id(path: str) -> str:
    """The safe characters of the file's name, and a hash of its path."""
    stem = UNSAFE.sub("_", PurePosixPath(path).stem)[: MAX_NAME - 9]
    return f"{stem}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
