"""What the clips of a split say together about synchrony: each figure with its interval and its chance level.

Axis words: N clips, O offsets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.statistics import (
    TIE_TOLERANCE,
    Figure,
    Interval,
    bootstrap,
    mean,
    mean_percent,
    percent,
)
from cavsync.train.evaluation.synchrony.clip import ClipSynchrony, Heard, Matching
from cavsync.train.evaluation.synchrony.config import SynchronyConfig


@dataclass(frozen=True)
class Detection:
    """In-step scores against the scores of the same clips with wrong sound, in %; chance is 50."""

    num_clips: int
    auc: Figure  # over all clips: one threshold for all of them
    own: Figure  # share of clips whose in-step score is above the wrong one's, each clip its own threshold


def detect(in_step: np.ndarray, wrong: np.ndarray, seed: int = 0) -> Detection | None:
    """Of (N, V) scores, the same pictures in both; NaN where a clip has no such version. None if no clip has one."""
    has_one = np.isfinite(in_step).any(axis=1)
    if not has_one.any():
        return None
    in_step, wrong = in_step[has_one], wrong[has_one]

    def auc(clips: np.ndarray) -> float:
        return _auc(in_step[clips].ravel(), wrong[clips].ravel())

    higher = np.where(np.isfinite(in_step), in_step > wrong + TIE_TOLERANCE, np.nan)
    own = np.nanmean(higher, axis=1)
    return Detection(len(in_step), percent(bootstrap(auc, len(in_step), seed)), mean_percent(own, seed))


def _auc(right: np.ndarray, wrong: np.ndarray) -> float:
    """The chance that a right score is above a wrong one, ties for half; NaN is left out."""
    right, wrong = right[np.isfinite(right)], np.sort(wrong[np.isfinite(wrong)])
    below = np.searchsorted(wrong, right - TIE_TOLERANCE, side="left")
    not_above = np.searchsorted(wrong, right + TIE_TOLERANCE, side="right")
    return float((below + not_above).mean() / (2 * len(wrong)))


@dataclass(frozen=True)
class MatchingFigures:
    """One direction of matching inside clips; means over clips."""

    top1: Figure
    chance: float  # %
    error_s: Interval
    error_chance_s: float
    num_candidates: float  # a clip, on average


@dataclass(frozen=True)
class MeanCurve:
    """Mean similarity by offset over the clips that have one there, (O,) each; NaN where no clip has one."""

    offsets_s: np.ndarray
    num_clips: np.ndarray
    own: np.ndarray
    low: np.ndarray  # the quarter of the clips below, and above
    high: np.ndarray
    other: np.ndarray  # with another clip's sound


@dataclass(frozen=True)
class DelayFigures:
    """How late the sound is estimated to be, where it is not late at all."""

    within: Figure  # share of clips within the tolerance
    chance: float  # %, of a delay drawn from those that the clip could be given
    within_other: Figure  # the same with another clip's sound
    told: Figure  # share of clips whose pictures agree well enough to tell a delay
    told_other: Figure  # the same with another clip's sound: false claims
    told_within: Figure | None  # of the told ones; None where none is
    median_error_s: Interval
    error_chance_s: float  # of a delay drawn at random
    bias_s: float  # median of the signed delays


@dataclass(frozen=True)
class SynchronyFigures:
    picture_to_window: MatchingFigures
    window_to_picture: MatchingFigures
    curve: MeanCurve
    delay: DelayFigures
    shifts: dict[float, Detection | None]  # seconds -> None where no clip is long enough
    other_sound: Detection | None


def summarise(clips: Sequence[ClipSynchrony], config: SynchronyConfig) -> SynchronyFigures:
    in_step, shifted = (np.stack([getattr(clip, kind) for clip in clips]) for kind in ("in_step", "shifted"))
    beside, other = (
        np.array([[getattr(clip, kind)] for clip in clips]) for kind in ("in_step_beside_other", "with_other")
    )
    return SynchronyFigures(
        picture_to_window=_matching([clip.within.picture_to_window for clip in clips], config.seed),
        window_to_picture=_matching([clip.within.window_to_picture for clip in clips], config.seed),
        curve=_mean_curve(clips, config.offsets_s),
        delay=_delays(clips, config),
        shifts={
            shift_s: detect(in_step[:, number], shifted[:, number], config.seed)
            for number, shift_s in enumerate(config.shifts_s)
        },
        other_sound=detect(beside, other, config.seed),
    )


def errors_s(heard: Sequence[Heard], worst_s: float) -> np.ndarray:
    """(N,) how far each estimate is from 0; `worst_s` where there is none."""
    return np.array([worst_s if one.delay is None else abs(one.delay.delay_s) for one in heard])


def _matching(matched: Sequence[Matching], seed: int) -> MatchingFigures:
    return MatchingFigures(
        top1=mean_percent(np.array([one.top1 for one in matched]), seed),
        chance=100 * float(np.mean([one.top1_chance for one in matched])),
        error_s=mean(np.array([one.error_s for one in matched]), seed),
        error_chance_s=float(np.mean([one.error_chance_s for one in matched])),
        num_candidates=float(np.mean([one.num_candidates for one in matched])),
    )


def _mean_curve(clips: Sequence[ClipSynchrony], offsets_s: np.ndarray) -> MeanCurve:
    own, other = (np.stack([getattr(clip, kind).curve for clip in clips]) for kind in ("own", "other"))
    has_own, has_other = np.isfinite(own).any(axis=0), np.isfinite(other).any(axis=0)
    curves = np.full((4, len(offsets_s)), np.nan)
    curves[0, has_own] = np.nanmean(own[:, has_own], axis=0)
    curves[1:3, has_own] = np.nanpercentile(own[:, has_own], [25, 75], axis=0)
    curves[3, has_other] = np.nanmean(other[:, has_other], axis=0)
    return MeanCurve(offsets_s, np.isfinite(own).sum(axis=0), *curves)


def _delays(clips: Sequence[ClipSynchrony], config: SynchronyConfig) -> DelayFigures:
    own, other = [clip.own for clip in clips], [clip.other for clip in clips]
    errors = errors_s(own, config.max_offset_s)
    within = errors <= config.tolerance_s
    told = _told(own, config.min_agreement)
    possible = [config.offsets_s[np.isfinite(one.curve)] for one in own]
    return DelayFigures(
        within=mean_percent(within.astype(float), config.seed),
        chance=100 * float(np.mean([_share_within(part, config.tolerance_s) for part in possible])),
        within_other=mean_percent(
            (errors_s(other, config.max_offset_s) <= config.tolerance_s).astype(float), config.seed
        ),
        told=mean_percent(told.astype(float), config.seed),
        told_other=mean_percent(_told(other, config.min_agreement).astype(float), config.seed),
        told_within=mean_percent(within[told].astype(float), config.seed) if told.any() else None,
        median_error_s=bootstrap(lambda chosen: float(np.median(errors[chosen])), len(clips), config.seed),
        error_chance_s=float(np.mean([np.abs(part).mean() if len(part) else 0.0 for part in possible])),
        bias_s=float(np.median([one.delay.delay_s for one in own if one.delay] or [0.0])),
    )


def _told(heard: Sequence[Heard], min_agreement: float) -> np.ndarray:
    return np.array([one.delay is not None and one.delay.is_told(min_agreement) for one in heard])


def _share_within(offsets_s: np.ndarray, tolerance_s: float) -> float:
    return float((np.abs(offsets_s) <= tolerance_s + 1e-9).mean()) if len(offsets_s) else 0.0
