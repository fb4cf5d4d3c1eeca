"""Curves of similarity by offset, as PNG bytes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cavsync.train.evaluation.synchrony.clip import ClipSynchrony
from cavsync.train.evaluation.synchrony.metrics import MeanCurve, ShiftDetection
from cavsync.train.evaluation.synchrony.offsets import Delay, OffsetCurve
from cavsync.train.reporting.images import png
from cavsync.train.reporting.page import CaptionedImage
from cavsync.train.reporting.plots import ACCENT, WINDOW_COLOURS

QUIET = "#9db4c0"
X_LABEL = "audio comes later than its frame by (s)"


def mean_curve(curve: MeanCurve) -> bytes:
    """The mean over clips with the middle half of them, and the mean with another clip's audio."""
    figure, axes = _figure(3.2)
    axes.fill_between(curve.offsets_s, curve.low, curve.high, color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(
        curve.offsets_s, curve.own, color=ACCENT, linewidth=2, label="own audio (band: half of the clips)"
    )
    axes.plot(curve.offsets_s, curve.other, color=QUIET, linewidth=2, label="another clip's audio")
    _label(axes, "mean cosine similarity")
    axes.legend(frameon=False, loc="upper left")
    return png(figure)


def delay_histogram(own: Sequence[float], other: Sequence[float], max_offset_s: float) -> bytes:
    """Histogram of the estimated delays, in seconds."""
    figure, axes = _figure(2.4)
    bins = np.linspace(-max_offset_s, max_offset_s, 81).tolist()
    axes.hist(other, bins, color=QUIET, label="another clip's audio")
    axes.hist(own, bins, color=ACCENT, alpha=0.8, label="own audio")
    _label(axes, "clips")
    axes.legend(frameon=False, loc="upper left")
    return png(figure)


def detection_curve(shifts: Mapping[float, ShiftDetection]) -> bytes:
    """How well moved audio is detected, by the seconds that it was moved."""
    figure, axes = _figure(2.4)
    seconds = list(shifts)
    for kind, colour, label in (("auc", ACCENT, "all clips (AUC)"), ("own", QUIET, "each clip by itself")):
        figures = [getattr(one, kind) for one in shifts.values()]
        middle = np.array([one.value for one in figures])
        around = [middle - [one.low for one in figures], [one.high for one in figures] - middle]
        axes.errorbar(
            seconds, middle, np.clip(around, 0, None), fmt="o-", color=colour, capsize=3, label=label
        )
    axes.axhline(50, color="#888888", linestyle=":", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(seconds, [f"{one:g}" for one in seconds])
    axes.set_xlabel("audio moved by (s), to either side")
    axes.set_ylabel("%")
    axes.legend(frameon=False, loc="lower right")
    return png(figure)


def clip_curves(clips: Sequence[ClipSynchrony], offsets_s: np.ndarray) -> list[CaptionedImage]:
    """One small plot a clip, all on one scale: its own audio, and another clip's, over `offsets_s` (offsets,)."""
    values = np.concatenate([curve for clip in clips for curve in (clip.own.curve, clip.other.curve)])
    known = values[np.isfinite(values)]  # a short clip may have no window at any offset
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    margin = 0.05 * (high - low) + 1e-6
    return [_clip_curve(clip, offsets_s, low - margin, high + margin) for clip in clips]


def _clip_curve(clip: ClipSynchrony, offsets_s: np.ndarray, bottom: float, top: float) -> CaptionedImage:
    figure = Figure(figsize=(4.8, 2.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(offsets_s, clip.other.curve, color=QUIET)
    axes.plot(offsets_s, clip.own.curve, color=ACCENT)
    axes.axvline(0, color="#888888", linestyle=":", linewidth=1)
    axes.set_ylim(bottom, top)
    delay = clip.own.delay
    found = "" if delay is None else f": {delay.delay_s:+.2f} s, agreement {delay.agreement:.2f}"
    return CaptionedImage(png(figure), clip.key + found)


def video_curve(curve: OffsetCurve, delay: Delay | None, reliable: bool) -> bytes:
    """The mean over frames, and its highest point."""
    figure, axes = _figure(3.2)
    axes.plot(curve.offsets_s, curve.mean, color=ACCENT, linewidth=2)
    _label(axes, "mean cosine similarity")
    if delay is not None:
        axes.axvline(delay.delay_s, color=ACCENT, linewidth=1, linestyle="-" if reliable else "--")
        axes.annotate(
            f"{delay.delay_s:+.2f} s" + ("" if reliable else "?"),
            (delay.delay_s, delay.similarity),
            xytext=(6, 4),
            textcoords="offset points",
            color=ACCENT,
        )
    return png(figure)


def frame_curves(curve: OffsetCurve, times_s: np.ndarray, delay: Delay | None) -> bytes:
    """Each frame's own curve as a column of colour, over its time on screen, (P,) seconds."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(times_s, curve.offsets_s, curve.each.T, cmap="magma", shading="nearest")
    if delay is not None:
        axes.axhline(delay.delay_s, color=WINDOW_COLOURS[0], linewidth=1.5, linestyle="--")
    axes.set_xlabel("frame at (s)")
    axes.set_ylabel("audio later by (s)")
    figure.colorbar(mesh, ax=axes, label="similarity")
    return png(figure)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, height), layout="constrained")
    return figure, figure.subplots()


def _label(axes: Axes, what: str) -> None:
    axes.axvline(0, color="#888888", linestyle=":", linewidth=1)
    axes.set_xlabel(X_LABEL)
    axes.set_ylabel(what)
