"""Synchrony of the clips of a split: each figure with its interval and its chance level.

Axis words: N clips, O offsets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cavsync.train.evaluation.intervals import jackknife_error
from cavsync.train.evaluation.statistics import (
    TIE_TOLERANCE,
    mean,
    mean_percent,
    median,
    of_fraction,
    proportion,
)
from cavsync.train.evaluation.synchrony.clip import ClipCurve, ClipSynchrony, Matching
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.reporting.estimate import Estimate


@dataclass(frozen=True)
class ShiftDetection:
    """Scores of clips in step against the scores of the same clips with wrong audio; chance is 50 %."""

    num_clips: int
    auc: Estimate  # over all clips: one threshold for all of them
    own: Estimate  # fraction of clips whose in-step score is above the wrong one's, each clip its own threshold


def detect(in_step: np.ndarray, wrong: np.ndarray) -> ShiftDetection | None:
    """Of (N, V) scores, over the same frames in both; NaN where a clip has no such version.

    None if no clip has one.
    """
    has_one = np.isfinite(in_step).any(axis=1)
    if not has_one.any():
        return None
    in_step, wrong = in_step[has_one], wrong[has_one]
    higher = np.where(np.isfinite(in_step), in_step > wrong + TIE_TOLERANCE, np.nan)
    own = np.nanmean(higher, axis=1)
    return ShiftDetection(len(in_step), _auc_estimate(in_step, wrong), mean_percent(own, 50.0))


def _auc_estimate(in_step: np.ndarray, wrong: np.ndarray) -> Estimate:
    """Of (N, V) scores; the interval is that of clips, whose versions belong together."""
    number, error = len(in_step), np.nan
    if number > 1:
        kept = ~np.eye(number, dtype=bool)
        error = jackknife_error(np.array([_auc(in_step[clips], wrong[clips]) for clips in kept]))
    return of_fraction(_auc(in_step, wrong), error, number, number - 1).in_percent().with_chance(50.0)


def _auc(right: np.ndarray, wrong: np.ndarray) -> float:
    """The probability that a right score is above a wrong one, of arrays of any shape; ties count half, NaN is left out."""
    right, wrong = right[np.isfinite(right)], np.sort(wrong[np.isfinite(wrong)])
    below = np.searchsorted(wrong, right - TIE_TOLERANCE, side="left")
    not_above = np.searchsorted(wrong, right + TIE_TOLERANCE, side="right")
    return float((below + not_above).mean() / (2 * len(wrong)))


@dataclass(frozen=True)
class MatchingFigures:
    """One direction of matching inside clips; means over clips."""

    top1: Estimate
    error_s: Estimate
    num_candidates: float  # a clip, on average


@dataclass(frozen=True)
class MeanCurve:
    """Mean similarity by offset over the clips that have one there, (O,) each; NaN where no clip has one."""

    offsets_s: np.ndarray
    num_clips: np.ndarray
    own: np.ndarray
    low: np.ndarray  # the quarter of the clips below, and above
    high: np.ndarray
    other: np.ndarray  # with another clip's audio


@dataclass(frozen=True)
class DelayFigures:
    """Estimated delays of the audio of clips whose audio is not delayed; chance is a delay drawn at random."""

    within: Estimate  # fraction of clips within the tolerance
    within_other: Estimate  # the same with another clip's audio
    reliable: Estimate  # fraction of clips whose frames agree well enough on a delay
    reliable_other: Estimate  # the same with another clip's audio: false claims
    reliable_within: Estimate | None  # within the tolerance, among the reliable ones; None where none is
    median_error_s: Estimate
    bias_s: float  # median of the signed delays


@dataclass(frozen=True)
class SynchronyFigures:
    frame_to_window: MatchingFigures
    window_to_frame: MatchingFigures
    curve: MeanCurve
    delay: DelayFigures
    shifts: dict[float, ShiftDetection | None]  # seconds -> None where no clip is long enough
    other_audio: ShiftDetection | None


def summarise(clips: Sequence[ClipSynchrony], config: SynchronyConfig) -> SynchronyFigures:
    in_step, shifted = (np.stack([getattr(clip, kind) for clip in clips]) for kind in ("in_step", "shifted"))
    beside, other = (
        np.array([[getattr(clip, kind)] for clip in clips]) for kind in ("in_step_beside_other", "with_other")
    )
    return SynchronyFigures(
        frame_to_window=_matching([clip.within.frame_to_window for clip in clips]),
        window_to_frame=_matching([clip.within.window_to_frame for clip in clips]),
        curve=_mean_curve(clips, config.offsets_s),
        delay=_delays(clips, config),
        shifts={
            shift_s: detect(in_step[:, number], shifted[:, number])
            for number, shift_s in enumerate(config.shifts_s)
        },
        other_audio=detect(beside, other),
    )


def errors_s(curves: Sequence[ClipCurve], worst_s: float) -> np.ndarray:
    """(N,) distances of the estimated delays from 0; `worst_s` where there is none."""
    return np.array([worst_s if one.delay is None else abs(one.delay.delay_s) for one in curves])


def _matching(matched: Sequence[Matching]) -> MatchingFigures:
    return MatchingFigures(
        top1=mean_percent(
            np.array([one.top1 for one in matched]),
            100 * float(np.mean([one.top1_chance for one in matched])),
        ),
        error_s=mean(
            np.array([one.error_s for one in matched]),
            float(np.mean([one.error_chance_s for one in matched])),
            unit="s",
        ),
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
    within, within_other = (
        errors_s(curves, config.max_offset_s) <= config.tolerance_s for curves in (own, other)
    )
    reliable, reliable_other = (_reliable(curves, config.min_agreement) for curves in (own, other))
    possible = [config.offsets_s[np.isfinite(one.curve)] for one in own]
    chance_within = 100 * float(np.mean([_fraction_within(part, config.tolerance_s) for part in possible]))
    chance_error_s = float(np.mean([np.abs(part).mean() if len(part) else 0.0 for part in possible]))

    return DelayFigures(
        within=proportion(within, chance_within),
        within_other=proportion(within_other),
        reliable=proportion(reliable),
        reliable_other=proportion(reliable_other),
        reliable_within=proportion(within[reliable]) if reliable.any() else None,
        median_error_s=median(errors, chance_error_s, "s"),
        bias_s=float(np.median([one.delay.delay_s for one in own if one.delay] or [0.0])),
    )


def _reliable(curves: Sequence[ClipCurve], min_agreement: float) -> np.ndarray:
    return np.array([one.delay is not None and one.delay.is_reliable(min_agreement) for one in curves])


def _fraction_within(offsets_s: np.ndarray, tolerance_s: float) -> float:
    return float((np.abs(offsets_s) <= tolerance_s + 1e-9).mean()) if len(offsets_s) else 0.0
