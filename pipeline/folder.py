"""A folder of videos as a list: one clip a file, its first seconds."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import PurePath

from cavsync.pipeline.lists import DEFAULT_CLIP_S, ListedClip
from cavsync.pipeline.sources import VideoTree

# A key is a file name up to its first dot, and a tar header has room for 100 characters.
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
MAX_ID = 64


def folder_clips(tree: VideoTree, test_share: float) -> Iterator[ListedClip]:
    """Every video of the tree, in order of path, from 0 to 10 s; files that end earlier give shorter clips."""
    taken: set[str] = set()
    for path in tree.names():
        clip_id = _id_of(path, taken)
        taken.add(clip_id)
        split = "test" if _share(clip_id) < test_share else "train"
        yield ListedClip(clip_id, split, 0.0, DEFAULT_CLIP_S, (), path, source=str(tree.root / path))


def _id_of(path: str, taken: set[str]) -> str:
    """The file's name; where that is no safe id, or stands for another file, a hash of the path makes it one."""
    stem = PurePath(path).stem
    clip_id = UNSAFE.sub("_", stem)[:MAX_ID]
    if clip_id == stem and clip_id not in taken:
        return clip_id
    return f"{clip_id[: MAX_ID - 9]}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"


def _share(clip_id: str) -> float:
    """A number in [0, 1) that depends on the id alone, so a clip keeps its split when the folder grows."""
    return int.from_bytes(hashlib.sha256(f"split:{clip_id}".encode()).digest()[:8]) / 2**64
