"""Matching inside one clip: which of its own audio segments belongs to a frame, and the other way round.

Segments (windows of the log-mel) that begin at the same row are one candidate: near its ends a clip has fewer windows
than frames, 11 for 16 with windows of 416 of 1024 rows. Frames with the same time are one candidate likewise. Axis
words: P frames and W windows, each once; V versions of the audio; O offsets.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.train.embedding.sliding import WindowEmbeddings, offset_s
from cavsync.train.evaluation.statistics import TIE_TOLERANCE
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.offsets import Delay, OffsetCurve, estimate_delay, offset_curve


@dataclass(frozen=True)
class Matching:
    """How one side of a clip chooses among the other side's candidates; fractions in [0, 1]."""

    num_candidates: int
    top1: float  # a tie with a wrong candidate is a miss
    top1_chance: float
    error_s: float  # distance of the chosen candidate from the right one; tied ones count in equal parts
    error_chance_s: float
    chosen: np.ndarray  # (queries,) the index of the chosen candidate, the first of those that tie


@dataclass(frozen=True)
class WithinClip:
    """Both directions of one clip. A query is a frame, or a window, each once."""

    frame_to_window: Matching
    window_to_frame: Matching
    chosen_of_frame: np.ndarray  # (all frames,) the index of a frame whose own window is the chosen one


def match_within(embeddings: WindowEmbeddings) -> WithinClip | None:
    """None where there is nothing to choose from: one window, or one frame, for the whole clip."""
    own = embeddings.own
    return match_pairs(embeddings.frames, embeddings.windows[own], embeddings.times_s, embeddings.starts[own])


def match_pairs(
    frames: np.ndarray, segments: np.ndarray, times_s: np.ndarray, starts: np.ndarray
) -> WithinClip | None:
    """The same for F frames and their own segments, unit vectors (F, D), at `times_s` (F,) and from rows `starts` (F,) on."""
    times_s, first_of_frame, frame = np.unique(times_s, return_index=True, return_inverse=True)
    starts, first_of_window, window = np.unique(starts, return_index=True, return_inverse=True)
    if len(times_s) < 2 or len(starts) < 2:
        return None
    belongs = np.zeros((len(times_s), len(starts)), bool)
    belongs[frame, window] = True
    scores = frames[first_of_frame] @ segments[first_of_window].T
    to_window = _match(scores, belongs, offset_s(starts, starts[:, None]))
    to_frame = _match(scores.T, belongs.T, np.subtract.outer(times_s, times_s))
    return WithinClip(to_window, to_frame, first_of_window[to_window.chosen][frame])


def _match(scores: np.ndarray, belongs: np.ndarray, apart_s: np.ndarray) -> Matching:
    """(queries, candidates) scores; `apart_s`, (candidates, candidates), is the distance of two candidates."""
    right = np.where(belongs, scores, -np.inf).max(axis=1)
    wrong = np.where(belongs, -np.inf, scores).max(axis=1)
    # From each candidate to the nearest right one.
    errors_s = np.where(belongs[:, None, :], np.abs(apart_s), np.inf).min(axis=2)
    tied = scores >= scores.max(axis=1, keepdims=True) - TIE_TOLERANCE
    return Matching(
        num_candidates=scores.shape[1],
        top1=float((right > wrong + TIE_TOLERANCE).mean()),
        top1_chance=float(belongs.mean()),
        error_s=float(((errors_s * tied).sum(axis=1) / tied.sum(axis=1)).mean()),
        error_chance_s=float(errors_s.mean()),
        chosen=scores.argmax(axis=1),
    )


@dataclass(frozen=True)
class ClipCurve:
    """The similarity of a clip's frames with audio by offset, and the delay at its maximum."""

    curve: np.ndarray  # (O,) NaN where too few frames have a window
    delay: Delay | None

    @classmethod
    def of(cls, curve: OffsetCurve) -> "ClipCurve":
        return cls(curve.mean, estimate_delay(curve))


@dataclass(frozen=True)
class ClipSynchrony:
    """One clip; scores are mean similarities over the frames that both sides have, NaN where there is none."""

    key: str
    within: WithinClip
    own: ClipCurve
    other: ClipCurve  # with the audio of another clip
    in_step: np.ndarray  # (shifts, 2) over the frames of audio that comes sooner, and that comes later
    shifted: np.ndarray  # (shifts, 2)
    in_step_beside_other: float
    with_other: float


def measure_clip(
    embeddings: WindowEmbeddings, within: WithinClip, other: WindowEmbeddings, config: SynchronyConfig
) -> ClipSynchrony:
    """A clip's frames with its own audio at every offset, and with the audio of `other`."""
    pairs = np.array([[-shift_s, shift_s] for shift_s in config.shifts_s])
    moved = offset_curve(embeddings, embeddings, np.array([0.0, *pairs.ravel()])).each
    mismatched = offset_curve(embeddings, other, np.zeros(1)).each
    in_step, shifted = _beside(moved[:, :1], moved[:, 1:])
    in_step_beside_other, with_other = _beside(moved[:, :1], mismatched)
    return ClipSynchrony(
        key=embeddings.name,
        within=within,
        own=ClipCurve.of(offset_curve(embeddings, embeddings, config.offsets_s)),
        other=ClipCurve.of(offset_curve(embeddings, other, config.offsets_s)),
        in_step=in_step.reshape(pairs.shape),
        shifted=shifted.reshape(pairs.shape),
        in_step_beside_other=float(in_step_beside_other[0]),
        with_other=float(with_other[0]),
    )


def _beside(in_step: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean scores (V,) of (P, 1) and (P, V) similarities over the frames that have both; NaN without any."""
    both = np.isfinite(in_step) & np.isfinite(wrong)
    count = both.sum(axis=0)
    nothing = np.full(len(count), np.nan)
    means = (
        np.divide(np.where(both, part, 0.0).sum(axis=0), count, out=nothing.copy(), where=count > 0)
        for part in (in_step, wrong)
    )
    return next(means), next(means)
