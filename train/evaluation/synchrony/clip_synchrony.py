"""What is measured of one clip: its pictures with its own sound, sooner and later, and with another clip's."""

from dataclasses import dataclass

import numpy as np

from cavsync.train.embedding.sliding import Slid
from cavsync.train.evaluation.synchrony.clip import WithinClip
from cavsync.train.evaluation.synchrony.config import SynchronyConfig
from cavsync.train.evaluation.synchrony.offsets import Delay, OffsetCurve, estimate_delay, offset_curve


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


def measure_clip(slid: Slid, within: WithinClip, other: Slid, config: SynchronyConfig) -> ClipSynchrony:
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
