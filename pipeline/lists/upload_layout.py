"""Finds out from their lengths whether files named by an id alone are whole uploads or cut clips.

A file that ends before its clip begins cannot be the whole upload; a file longer than its clip cannot be the cut clip.
A file of which several clips are listed is not one of them, cut out: where it ends early, it is an upload cut short.
A wrong guess would go unnoticed, so files that disagree raise SourceError.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.pipeline.archives.archive_set import ArchiveSet
from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.lists.clip_list import ListedClip
from cavsync.pipeline.lists.videos import Holds, SourceError, VideoTree

# Files that decide, files opened at most to find them, and ids to choose from.
NUM_VOTES, MAX_OPENED, MAX_CANDIDATES = 16, 64, 4096
# How much longer than its clip a cut file may be: tools cut at the next frame or the next key frame.
TOLERANCE_S = 1.0
# Some uploads are cut short by their download; such a clip ends as too_short.
MAX_SHORT_UPLOADS = 2


@dataclass(frozen=True)
class _Vote:
    holds: Holds
    evidence: str


def with_layout(
    tree: VideoTree, layout: VideoLayout, clips: Iterable[ListedClip], archives: ArchiveSet
) -> VideoTree:
    """The tree with `holds` set. Raises SourceError when the files disagree."""
    holds = _found(tree, clips, archives) if layout == "auto" else layout
    num_ids = pc.sum(tree.named_by_id()).as_py() or 0
    num_timed = pc.sum(tree.named_by_time()).as_py() or 0
    whole, cut = (num_ids, num_timed) if holds == "whole" else (0, num_ids + num_timed)
    note = f"{whole:,} whole uploads, {cut:,} cut clips, {len(tree) - whole - cut:,} other"
    return replace(tree, holds=holds, note=note)


def _found(tree: VideoTree, clips: Iterable[ListedClip], archives: ArchiveSet) -> Holds:
    votes = list(islice(_votes(tree, clips, archives), NUM_VOTES))
    whole, cut = ([vote for vote in votes if vote.holds == kind] for kind in ("whole", "cut"))
    if (whole and len(cut) > MAX_SHORT_UPLOADS) or (cut and len(cut) >= len(whole) > 0):
        raise SourceError(
            f"{tree.root} holds whole uploads and cut clips under names that do not distinguish them: "
            f"{whole[0].evidence}, but {cut[0].evidence}. Say with --layout whole or --layout cut what a file named "
            "ID.mp4 holds, or put the other ones elsewhere or name them ID_000030.mp4."
        )
    return "cut" if cut and not whole else "whole"


def _votes(tree: VideoTree, clips: Iterable[ListedClip], archives: ArchiveSet) -> Iterator[_Vote]:
    candidates = _candidates(tree)
    listed: dict[str, dict[float, ListedClip]] = {}  # id -> start -> clip
    for clip in clips if candidates else ():
        if clip.clip_id in candidates:
            listed.setdefault(clip.clip_id, {}).setdefault(clip.start_s, clip)
    late = (clip for starts in listed.values() for clip in starts.values() if clip.start_s > 0)
    with DecoderProcess() as decoder:
        for clip in islice(late, MAX_OPENED):
            path = candidates[clip.clip_id]
            length_s = decoder.duration_s(archives.path_of(str(tree.root / path)))
            if length_s is None:
                continue
            if length_s <= clip.start_s and len(listed[clip.clip_id]) == 1:
                begins = f"its clip begins at {clip.start_s:g} s"
                yield _Vote("cut", f"{path} lasts {length_s:.1f} s and {begins}")
            elif length_s > clip.end_s - clip.start_s + TOLERANCE_S:
                lasts = f"its clip {clip.end_s - clip.start_s:g} s"
                yield _Vote("whole", f"{path} lasts {length_s:.1f} s and {lasts}")


def _candidates(tree: VideoTree) -> dict[str, str]:
    """Id -> path of some files that are named by an id alone, from the whole tree."""
    named = tree.named_by_id()
    ids, paths = pc.filter(tree.stems(), named), pc.filter(tree.paths, named)
    step = max(1, len(ids) // MAX_CANDIDATES)
    indices = pa.array(range(0, len(ids), step), pa.int64())
    return dict(zip(ids.take(indices).to_pylist(), paths.take(indices).to_pylist(), strict=True))
