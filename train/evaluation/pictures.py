"""Pictures for reports, as PNG bytes: training curves, and a clip's frames over its log-mel."""

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from cavsync.pipeline.dataset import StoredClip
from cavsync.pipeline.schema import MEL_ROWS_PER_S

ACCENT = "#d1495b"
# Seen on dark and on bright parts of the magma map alike.
WINDOW_COLOURS = ("#00d5ff", "#7dff4f", "#ffffff")
mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})


def training_curves(metrics: pd.DataFrame) -> bytes:
    """One panel a loss and one for the learning rate, over the steps of `metrics.jsonl`."""
    panels = {
        "reconstruction_audio": "audio reconstruction",
        "reconstruction_image": "image reconstruction",
        "contrastive": "contrastive loss",
        "lr": "learning rate",
    }
    figure = Figure(figsize=(12, 2.6), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.plot(metrics["step"], metrics[column], color="#9db4c0", linewidth=0.8)
        # A running mean shows the trend under the noise of single batches.
        smooth = metrics[column].rolling(max(1, len(metrics) // 40), min_periods=1).mean()
        axes.plot(metrics["step"], smooth, color=ACCENT, linewidth=1.6)
        axes.set_title(title)
        axes.set_xlabel("step")
    return png(figure)


def frames_over_mel(
    clip: StoredClip,
    frame_pts_s: Sequence[float],
    window_starts: Sequence[int] | np.ndarray,
    window_rows: int,
    marked: Sequence[int] = (3, 11),
) -> bytes:
    """A clip's frames above its log-mel; the window of each `marked` frame is framed in its colour."""
    num_frames = len(clip.frames)
    colours = dict(zip(marked, WINDOW_COLOURS, strict=False))
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    grid = figure.add_gridspec(2, num_frames, height_ratios=[1, 2.2])
    for number, jpeg in enumerate(clip.frames):
        axes = figure.add_subplot(grid[0, number])
        axes.imshow(Image.open(io.BytesIO(jpeg)))
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
    """The log-mel alone, as a thumbnail without axes."""
    figure = Figure(figsize=(3.2, 0.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(mel.astype(np.float32).T, origin="lower", aspect="auto", cmap="magma")
    axes.set_axis_off()
    return png(figure)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
