"""The similarity of frames with audio that comes earlier or later, and the delay of the audio.

An offset of 1 s pairs each frame with the window of audio that is 1 s after its own: the right one where the audio of
a video is 1 s late. Axis words: P frames, W windows, O offsets, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.embedding.sliding import WindowEmbeddings
from cavsync.train.evaluation.statistics import TIE_TOLERANCE

# An offset counts if at least this fraction of the frames that have any window have one there: towards the ends of
# the range, frames run out of audio.
MIN_FRAME_FRACTION = 0.5
# Below this agreement, or with fewer frames, a delay is not reliable. On the small world (clips of 10 s, 16 frames) 97 % of
# clips lie above, and 2 % of clips with another one's audio; with 4 frames half of those would.
MIN_AGREEMENT = 0.8
MIN_FRAMES = 8
# A window of audio of which more is missing is compared with no frame.
MAX_MISSING = 0.1


@dataclass(frozen=True)
class OffsetCurve:
    offsets_s: np.ndarray  # (O,) ascending
    each: np.ndarray  # (P, O) similarity of each frame; NaN where the audio has no such window

    @property
    def num_frames(self) -> np.ndarray:
        """(O,) the number of frames that have a window at each offset."""
        count: np.ndarray = np.isfinite(self.each).sum(axis=0)
        return count

    @property
    def mean(self) -> np.ndarray:
        """(O,) mean similarity; NaN where too few frames have a window."""
        count = self.num_frames
        enough = count >= max(1, MIN_FRAME_FRACTION * count.max(initial=0))
        total = np.nansum(self.each, axis=0)
        mean: np.ndarray = np.divide(total, count, out=np.full(len(count), np.nan), where=enough)
        return mean


@dataclass(frozen=True)
class Delay:
    """The offset at which a curve has its maximum."""

    delay_s: float
    similarity: float
    agreement: float
    """How far the frames agree on this delay. Each frame has a largest gain of similarity over its mean, at the offset
    that is best for it alone; agreement is the fraction of these gains that all frames reach together at this one
    delay: 1 where all have their maximum here, 0 where similarity does not depend on the offset, or this one is worse than
    their mean."""
    num_frames: int
    at_edge: bool  # the curve still rises where it ends

    def is_reliable(self, min_agreement: float) -> bool:
        """Whether the frames are enough and agree well enough, and the maximum lies inside the curve."""
        return self.agreement >= min_agreement and self.num_frames >= MIN_FRAMES and not self.at_edge


def offset_grid(max_offset_s: float, step_s: float) -> np.ndarray:
    """(O,) multiples of `step_s` up to `max_offset_s`, both ways."""
    steps = int(max_offset_s / step_s + 1e-6)
    grid: np.ndarray = np.arange(-steps, steps + 1) * step_s
    return grid


def without_missing(
    audio: WindowEmbeddings, gaps_s: Sequence[tuple[float, float]], num_rows: int
) -> WindowEmbeddings:
    """The same with NaN for the windows, of `num_rows` each, that lack more than `MAX_MISSING` of their audio.

    `gaps_s` are [start, stop) on the clip's clock. Silence in place of missing audio would be compared with the frames.
    """
    starts_s = audio.starts / MEL_ROWS_PER_S
    window_s = num_rows / MEL_ROWS_PER_S
    missing_s = np.zeros(len(starts_s))
    for start_s, stop_s in gaps_s:
        common_s = np.minimum(starts_s + window_s, stop_s) - np.maximum(starts_s, start_s)
        missing_s += np.maximum(0.0, common_s)
    lacks = missing_s > MAX_MISSING * window_s
    return replace(audio, windows=np.where(lacks[:, None], np.nan, audio.windows))


def offset_curve(video: WindowEmbeddings, audio: WindowEmbeddings, offsets_s: np.ndarray) -> OffsetCurve:
    """The frames of one clip with the windows of the same one, or of another, at (O,) offsets.

    A window between two that were encoded has the similarity that a line between theirs has there.
    """
    inside = audio.starts <= audio.last_start  # own windows of published alignment may reach into padding
    starts, windows = audio.starts[inside], audio.windows[inside]
    each = np.full((len(video.frames), len(offsets_s)), np.nan)
    for row, frame, first in zip(each, video.frames, video.unbounded, strict=True):
        wanted = first + offsets_s * MEL_ROWS_PER_S
        there = (wanted >= 0) & (wanted <= audio.last_start)
        if there.any():
            near = _around(starts, wanted[there])
            row[there] = np.interp(wanted[there], starts[near], windows[near] @ frame)
    return OffsetCurve(offsets_s, each)


def estimate_delay(curve: OffsetCurve) -> Delay | None:
    """None where no offset has enough frames."""
    mean = curve.mean
    known = np.flatnonzero(np.isfinite(mean))
    if len(known) == 0:
        return None
    best = int(known[mean[known].argmax()])
    return Delay(
        delay_s=_vertex(curve.offsets_s, mean, best),
        similarity=float(mean[best]),
        agreement=_agreement(curve.each, best),
        num_frames=int(curve.num_frames[best]),
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
    return max(0.0, float(gained / possible)) if possible > TIE_TOLERANCE * len(rows) else 0.0
