"""Plots that several reports share: training curves, and a clip's frames over its log-mel."""

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cavsync.pipeline.dataset.reader import ClipContent
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.train.engine.config import AVERAGED_PREFIX
from cavsync.train.reporting.images import jpeg, png

ACCENT = "#d1495b"
# Visible on dark and on bright parts of the magma map alike.
WINDOW_COLOURS = ("#00d5ff", "#7dff4f", "#ffffff")
MEL_STRIP_SIZE = (320, 72)
# Of the masked parts of a model's input.
HIDDEN_GREY = 0.75
MEL_COLOURS = mpl.colormaps["magma"].with_extremes(bad=str(HIDDEN_GREY))
mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})


def draw_curve(axes: Axes, metrics: pd.DataFrame, column: str, title: str) -> None:
    """A figure by step, thin, with its running mean, which shows the trend under the noise of single batches."""
    axes.plot(metrics["step"], metrics[column], color="#9db4c0", linewidth=0.8)
    smooth = metrics[column].rolling(max(1, len(metrics) // 40), min_periods=1).mean()
    axes.plot(metrics["step"], smooth, color=ACCENT, linewidth=1.6)
    axes.set_title(title)
    axes.set_xlabel("step")


def draw_validation(axes: Axes, validations: pd.DataFrame, one: str, other: str, title: str) -> None:
    """The columns `one` and `other` of `validations` over their steps; dashed, those of the moving average of the weights."""
    axes.set_title(title)
    axes.set_xlabel("step")
    if validations.empty:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, color="#888888")
        return
    for column, colour in ((one, ACCENT), (other, "#2e6f8e")):
        for name, style in ((column, "o-"), (f"{AVERAGED_PREFIX}{column}", "o--")):
            if name in validations:
                axes.plot(
                    validations["step"],
                    validations[name],
                    style,
                    color=colour,
                    markersize=3,
                    label=name.replace("_", " "),
                )
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7)


def frames_over_mel(
    clip: ClipContent,
    frame_pts_s: Sequence[float],
    window_starts: Sequence[int] | np.ndarray,
    window_rows: int,
    marked: Sequence[int] = (3, 11),
) -> bytes:
    """A clip's frames above its log-mel; the window of each `marked` frame is framed in its colour.

    `window_starts` (frames,) are first rows of the log-mel, each of a window of `window_rows`.
    """
    num_frames = len(clip.frames)
    colours = dict(zip(marked, WINDOW_COLOURS, strict=False))
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    grid = figure.add_gridspec(2, num_frames, height_ratios=[1, 2.2])
    for number, frame in enumerate(clip.frames):
        axes = figure.add_subplot(grid[0, number])
        axes.imshow(Image.open(io.BytesIO(frame)))
        axes.set_xticks([], [])
        axes.set_yticks([], [])
        axes.set_title(f"{frame_pts_s[number]:.2f} s", fontsize=7)
        axes.spines[:].set(visible=number in colours, color=colours.get(number), linewidth=3)
    axes = figure.add_subplot(grid[1, :])
    end_s = len(clip.mel) / MEL_ROWS_PER_S
    mel = clip.mel.astype(np.float32).T
    axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", extent=(0, end_s, 0, len(mel)))
    axes.vlines(frame_pts_s, 0, len(mel), color="white", linewidth=0.5, linestyle=":")
    for number, colour in colours.items():
        start_s = window_starts[number] / MEL_ROWS_PER_S
        axes.axvspan(
            start_s, start_s + window_rows / MEL_ROWS_PER_S, fill=False, edgecolor=colour, linewidth=3
        )
        axes.axvline(frame_pts_s[number], color=colour, linewidth=1.5)
    axes.set_xlim(0, end_s)
    axes.set_xlabel("seconds")
    axes.set_ylabel("mel band")
    return png(figure)


def mel_strip(mel: np.ndarray) -> bytes:
    """A (rows, mels) log-mel as a JPEG thumbnail without axes; time goes to the right, frequency up."""
    values = mel.astype(np.float32).T[::-1]
    low, high = np.percentile(values, [1, 99.9])
    colours = MEL_COLOURS(np.clip((values - low) / max(high - low, 1e-6), 0, 1), bytes=True)[..., :3]
    strip = Image.fromarray(np.ascontiguousarray(colours))
    return jpeg(strip.resize(MEL_STRIP_SIZE, Image.Resampling.BILINEAR))
