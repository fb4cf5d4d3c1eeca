"""What files named by an id alone hold: whole uploads, or clips already cut out. Their lengths tell.

A file that ends before its clip begins cannot be the whole upload; one that is longer than its clip cannot be the
clip. Cutting wrongly would go unnoticed, so where the files disagree the user is asked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from cavsync.pipeline.dataset.choices import VideoLayout
from cavsync.pipeline.lists.clip_list import ListedClip
from cavsync.pipeline.lists.videos import Holds, SourceError, VideoTree

# As many files decide; so many are looked at to find them.
NUM_VOTES, MAX_OPENED, MAX_CANDIDATES = 16, 64, 4096
# How much longer than its clip a cut file may be: cutters round up to the next picture, or the next key picture.
TOLERANCE_S = 1.0
# Some uploads are cut short by their download; such a clip ends as too_short.
MAX_SHORT_UPLOADS = 2


@dataclass(frozen=True)
class _Vote:
    holds: Holds
    evidence: str


def with_layout(tree: VideoTree, layout: VideoLayout, clips: Iterable[ListedClip]) -> VideoTree:
    """The tree, knowing what its files named by an id hold. Raises SourceError when that cannot be told."""
    holds = _found(tree, clips) if layout == "auto" else layout
    num_ids = pc.sum(tree.named_by_id()).as_py() or 0
    num_timed = pc.sum(tree.named_by_time()).as_py() or 0
    whole, cut = (num_ids, num_timed) if holds == "whole" else (0, num_ids + num_timed)
    note = f"{whole:,} whole uploads, {cut:,} cut clips, {len(tree) - whole - cut:,} other"
    return replace(tree, holds=holds, note=note)


def _found(tree: VideoTree, clips: Iterable[ListedClip]) -> Holds:
    votes = list(islice(_votes(tree, clips), NUM_VOTES))
    whole, cut = ([vote for vote in votes if vote.holds == kind] for kind in ("whole", "cut"))
    if (whole and len(cut) > MAX_SHORT_UPLOADS) or (cut and len(cut) >= len(whole) > 0):
        raise SourceError(
            f"{tree.root} holds whole uploads and cut clips under names that do not tell which is which: "
            f"{whole[0].evidence}, but {cut[0].evidence}. Say with --layout whole or --layout cut what a file named "
            "ID.mp4 holds, or put the other ones elsewhere or name them ID_000030.mp4."
        )
    return "cut" if cut and not whole else "whole"


def _votes(tree: VideoTree, clips: Iterable[ListedClip]) -> Iterator[_Vote]:
    from cavsync.pipeline.media.probe import duration_s  # loads FFmpeg's libraries

    candidates = _candidates(tree)
    late = (
        (clip for clip in clips if clip.start_s > 0 and clip.clip_id in candidates)
        if candidates
        else iter(())
    )
    for clip in islice(late, MAX_OPENED):
        path = candidates[clip.clip_id]
        length_s = duration_s(str(tree.root / path))
        if length_s is None:
            continue
        if length_s <= clip.start_s:
            begins = f"its clip begins at {clip.start_s:g} s"
            yield _Vote("cut", f"{path} lasts {length_s:.1f} s and {begins}")
        elif length_s > clip.end_s - clip.start_s + TOLERANCE_S:
            lasts = f"its clip {clip.end_s - clip.start_s:g} s"
            yield _Vote("whole", f"{path} lasts {length_s:.1f} s and {lasts}")


def _candidates(tree: VideoTree) -> dict[str, str]:
    """Id and path of some files that an id alone names, from the whole tree."""
    named = tree.named_by_id()
    ids, paths = pc.filter(tree.stems(), named), pc.filter(tree.paths, named)
    step = max(1, len(ids) // MAX_CANDIDATES)
    places = pa.array(range(0, len(ids), step), pa.int64())
    return dict(zip(ids.take(places).to_pylist(), paths.take(places).to_pylist(), strict=True))
