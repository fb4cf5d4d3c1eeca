"""Which of a clip's own windows of sound belongs to a picture, and the other way round: matching inside one clip.

Windows that begin at the same row are one candidate: near its ends a clip has fewer windows than pictures, 11 for
16 with windows of 416 of 1024 rows. Pictures with the same time are one candidate likewise. Axis words: P pictures
and W windows, each once.
"""

from dataclasses import dataclass

import numpy as np

from cavsync.train.embedding.sliding import Slid, offset_s
from cavsync.train.evaluation.retrieval.similarity import TIE_TOLERANCE


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


def match_within(slid: Slid) -> WithinClip | None:
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
