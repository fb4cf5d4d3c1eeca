"""How well pictures go with sound that comes sooner or later, and how late the sound is.

An offset of 1 s pairs each picture with the window that is 1 s after its own: where the sound of a video is 1 s late,
that is where it belongs. Axis words: P pictures, O offsets.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.embedding.sliding import WindowEmbeddings
from cavsync.train.evaluation.statistics import TIE_TOLERANCE

# An offset counts if at least this share of the pictures that have any window have one there: towards the ends of
# the range, pictures run out of sound.
MIN_SHARE_OF_PICTURES = 0.5
# Below this agreement, or with fewer pictures, a delay is not told. On the small world (clips of 10 s, 16 pictures) 97 % of
# clips lie above, and 2 % of clips with another one's sound; with 4 pictures half of those would.
MIN_AGREEMENT = 0.8
MIN_PICTURES = 8


@dataclass(frozen=True)
class OffsetCurve:
    offsets_s: np.ndarray  # (O,) ascending
    each: np.ndarray  # (P, O) similarity of each picture; NaN where the sound has no such window

    @property
    def num_pictures(self) -> np.ndarray:
        """(O,) how many pictures have a window at each offset."""
        count: np.ndarray = np.isfinite(self.each).sum(axis=0)
        return count

    @property
    def mean(self) -> np.ndarray:
        """(O,) mean similarity; NaN where too few pictures have a window."""
        count = self.num_pictures
        enough = count >= max(1, MIN_SHARE_OF_PICTURES * count.max(initial=0))
        total = np.nansum(self.each, axis=0)
        mean: np.ndarray = np.divide(total, count, out=np.full(len(count), np.nan), where=enough)
        return mean


@dataclass(frozen=True)
class Delay:
    """Where a curve has its maximum."""

    delay_s: float
    similarity: float
    agreement: float
    """Of the similarity that each picture gains at the offset where it alone is best, over its mean, the share that all
    gain together at this one: 1 where all pictures want the same delay, 0 where none cares."""
    num_pictures: int
    at_edge: bool  # the curve still rises where it ends

    def is_told(self, min_agreement: float) -> bool:
        """Whether the pictures agree well enough, and are enough, to believe it."""
        return self.agreement >= min_agreement and self.num_pictures >= MIN_PICTURES and not self.at_edge


def offset_grid(max_offset_s: float, step_s: float) -> np.ndarray:
    """(O,) multiples of `step_s` up to `max_offset_s`, both ways."""
    steps = int(max_offset_s / step_s + 1e-6)
    grid: np.ndarray = np.arange(-steps, steps + 1) * step_s
    return grid


def offset_curve(seen: WindowEmbeddings, heard: WindowEmbeddings, offsets_s: np.ndarray) -> OffsetCurve:
    """Pictures of one medium with sound of the same one, or of another.

    A window between two that were encoded has the similarity that a line between theirs has there.
    """
    inside = heard.starts <= heard.last_start  # own windows of published alignment may reach into padding
    starts, windows = heard.starts[inside], heard.windows[inside]
    each = np.full((len(seen.pictures), len(offsets_s)), np.nan)
    for row, picture, first in zip(each, seen.pictures, seen.unbounded, strict=True):
        wanted = first + offsets_s * MEL_ROWS_PER_S
        there = (wanted >= 0) & (wanted <= heard.last_start)
        if there.any():
            near = _around(starts, wanted[there])
            row[there] = np.interp(wanted[there], starts[near], windows[near] @ picture)
    return OffsetCurve(offsets_s, each)


def estimate_delay(curve: OffsetCurve) -> Delay | None:
    """None where no offset has enough pictures."""
    mean = curve.mean
    known = np.flatnonzero(np.isfinite(mean))
    if len(known) == 0:
        return None
    best = int(known[mean[known].argmax()])
    return Delay(
        delay_s=_vertex(curve.offsets_s, mean, best),
        similarity=float(mean[best]),
        agreement=_agreement(curve.each, best),
        num_pictures=int(curve.num_pictures[best]),
        at_edge=best in (known[0], known[-1]),
    )


def _around(starts: np.ndarray, wanted: np.ndarray) -> slice:
    """The `starts` that the interpolation at `wanted` needs."""
    first = np.searchsorted(starts, wanted.min(), side="right") - 1
    return slice(max(0, int(first)), int(np.searchsorted(starts, wanted.max())) + 1)


def _vertex(offsets_s: np.ndarray, mean: np.ndarray, best: int) -> float:
    """Of the parabola through the highest point and its neighbours; that point itself at an end or on a plateau."""
    around = mean[max(0, best - 1) : best + 2]
    if len(around) < 3 or not np.isfinite(around).all():
        return float(offsets_s[best])
    below, top, above = around
    bend = below - 2 * top + above
    shift = 0.5 * (below - above) / bend if bend < 0 else 0.0
    return float(offsets_s[best] + shift * (offsets_s[best + 1] - offsets_s[best]))


def _agreement(each: np.ndarray, best: int) -> float:
    rows = each[np.isfinite(each[:, best])]
    mean = np.nanmean(rows, axis=1)
    gained, possible = (rows[:, best] - mean).sum(), (np.nanmax(rows, axis=1) - mean).sum()
    return float(gained / possible) if possible > TIE_TOLERANCE * len(rows) else 0.0
