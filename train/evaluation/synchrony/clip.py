"""Which of a clip's own windows of sound belongs to a picture, and the other way round: matching inside one clip.

Windows that begin at the same row are one candidate: near its ends a clip has fewer windows than pictures, 11 for
16 with windows of 416 of 1024 rows. Pictures with the same time are one candidate likewise. Axis words: P pictures
and W windows, each once.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.train.embedding.sliding import WindowEmbeddings, offset_s
from cavsync.train.evaluation.statistics import TIE_TOLERANCE
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.offsets import Delay, OffsetCurve, estimate_delay, offset_curve


@dataclass(frozen=True)
class Matching:
    """How one side of a clip chooses among the other side's candidates; shares in [0, 1]."""

    num_candidates: int
    top1: float  # a tie with a wrong candidate is a miss
    top1_chance: float
    error_s: float  # how far the chosen candidate is from the right one; tied ones count in equal parts
    error_chance_s: float
    chosen: np.ndarray  # (queries,) the candidate that each query chose, the first of those that tie


@dataclass(frozen=True)
class WithinClip:
    """Both directions of one clip. A query is a picture, or a window, each once."""

    picture_to_window: Matching
    window_to_picture: Matching
    chosen_of_picture: np.ndarray  # (all pictures,) a picture whose own window is the one that was chosen


def match_within(slid: WindowEmbeddings) -> WithinClip | None:
    """None where there is nothing to choose from: one window, or one picture, for the whole clip."""
    times_s, first_picture, picture = np.unique(slid.times_s, return_index=True, return_inverse=True)
    own, first_of_window, window = np.unique(slid.own, return_index=True, return_inverse=True)
    if len(times_s) < 2 or len(own) < 2:
        return None
    belongs = np.zeros((len(times_s), len(own)), bool)
    belongs[picture, window] = True
    scores = slid.pictures[first_picture] @ slid.windows[own].T
    starts = slid.starts[own]
    forth = _match(scores, belongs, offset_s(starts, starts[:, None]))
    back = _match(scores.T, belongs.T, np.subtract.outer(times_s, times_s))
    return WithinClip(forth, back, first_of_window[forth.chosen][picture])


def _match(scores: np.ndarray, belongs: np.ndarray, apart_s: np.ndarray) -> Matching:
    """(queries, candidates) scores; `apart_s` (candidates, candidates) is how far two candidates are from each other."""
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
class Heard:
    """Pictures with one sound: how similar at each offset, and where they are most similar."""

    curve: np.ndarray  # (O,) NaN where too few pictures have a window
    delay: Delay | None

    @classmethod
    def of(cls, curve: OffsetCurve) -> "Heard":
        return cls(curve.mean, estimate_delay(curve))


@dataclass(frozen=True)
class ClipSynchrony:
    """One clip; scores are mean similarities over the pictures that both sides have, NaN where there is none."""

    key: str
    within: WithinClip
    own: Heard
    other: Heard  # with the sound of another clip
    in_step: np.ndarray  # (shifts, 2) beside the sound that comes sooner, and that comes later
    shifted: np.ndarray  # (shifts, 2)
    in_step_beside_other: float
    with_other: float


def measure_clip(
    slid: WindowEmbeddings, within: WithinClip, other: WindowEmbeddings, config: SynchronyConfig
) -> ClipSynchrony:
    """Its pictures with its own sound at every offset, and with the sound of `other`."""
    pairs = np.array([[-shift_s, shift_s] for shift_s in config.shifts_s])
    moved = offset_curve(slid, slid, np.array([0.0, *pairs.ravel()])).each
    foreign = offset_curve(slid, other, np.zeros(1)).each
    in_step, shifted = _beside(moved[:, :1], moved[:, 1:])
    in_step_beside_other, with_other = _beside(moved[:, :1], foreign)
    return ClipSynchrony(
        key=slid.name,
        within=within,
        own=Heard.of(offset_curve(slid, slid, config.offsets_s)),
        other=Heard.of(offset_curve(slid, other, config.offsets_s)),
        in_step=in_step.reshape(pairs.shape),
        shifted=shifted.reshape(pairs.shape),
        in_step_beside_other=float(in_step_beside_other[0]),
        with_other=float(with_other[0]),
    )


def _beside(in_step: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean scores (V,) of (P, 1) and (P, V) similarities over the pictures that have both; NaN without any."""
    both = np.isfinite(in_step) & np.isfinite(wrong)
    count = both.sum(axis=0)
    nothing = np.full(len(count), np.nan)
    means = (
        np.divide(np.where(both, part, 0.0).sum(axis=0), count, out=nothing.copy(), where=count > 0)
        for part in (in_step, wrong)
    )
    return next(means), next(means)
