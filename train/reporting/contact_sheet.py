"""A prepared clip as one plot: its frames, its log-mel, and the rows of it that belong to each frame."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.patches import ConnectionPatch
from PIL import Image, ImageDraw, ImageFont

from cavsync.pipeline.dataset.index_row import ClipFacts, IndexRow
from cavsync.pipeline.dataset.reader import ClipContent
from cavsync.pipeline.dataset.schema import MEL_ROWS_PER_S
from cavsync.pipeline.inspection.clips import SampleClip
from cavsync.train.reporting.images import DPI, png

WIDTH_IN = 12.0
# The time axis in fractions of the plot's width: a page puts its cursor there.
LEFT, RIGHT = 0.045, 0.99
FRAME_IN = 0.95  # tallest a frame is drawn
MEL_IN, WINDOWS_IN = 1.5, 0.75
TOP_IN, GAP_IN, BOTTOM_IN = 0.2, 0.16, 0.42
MAX_DRAWN = 16  # of a clip's frames
TITLE_PX = 30


def clip_plot(clip: ClipFacts, stored: ClipContent) -> Image.Image:
    """Frames above the log-mel above the window of each frame; colours go with the frames."""
    drawn = np.unique(np.linspace(0, len(stored.frames) - 1, MAX_DRAWN).round().astype(int)).tolist()
    colours = [mpl.colormaps["turbo"](level) for level in np.linspace(0.08, 0.92, len(drawn))]
    frames = [Image.open(io.BytesIO(stored.frames[number])) for number in drawn]
    height_in = _frame_height_in(clip, frames)
    figure, (frame_axes, mel, windows) = _panels([height_in, MEL_IN, WINDOWS_IN])
    _draw_frames(frame_axes, frames, height_in, clip, drawn, colours)
    _draw_mel(mel, stored.mel)
    _draw_windows(windows, clip, drawn, colours)
    for axes in (frame_axes, mel, windows):
        axes.set_xlim(0, end_s(clip))
    _connect(frame_axes, mel, clip, drawn, colours)
    return Image.open(io.BytesIO(png(figure))).convert("RGB")


def end_s(clip: ClipFacts) -> float:
    """The end of the time axis of a clip's plot, in seconds."""
    return max(clip.duration_s, max(clip.window_stop) / MEL_ROWS_PER_S)


def sheet(clips: Sequence[SampleClip], plots: Sequence[Image.Image | None]) -> bytes:
    """All clips below each other as one PNG, each with its title; a failed one is its title alone."""
    parts = [_titled(clip.row, plot) for clip, plot in zip(clips, plots, strict=True)]
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return png(whole)


def title(row: IndexRow) -> str:
    """The clip in one line."""
    outcome = f"{row.state}: {row.reason}" if row.reason else ""
    return " · ".join(filter(None, [row.key, row.split, ", ".join(row.labels), outcome]))


def _panels(heights_in: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure of axes below each other, all over the same time span."""
    total_in = TOP_IN + sum(heights_in) + GAP_IN * (len(heights_in) - 1) + BOTTOM_IN
    figure = Figure(figsize=(WIDTH_IN, total_in), dpi=DPI)
    below_in, panels = total_in - TOP_IN, []
    for height_in in heights_in:
        below_in -= height_in
        position = (LEFT, below_in / total_in, RIGHT - LEFT, height_in / total_in)
        panels.append(figure.add_axes(position))
        below_in -= GAP_IN
    return figure, panels


def _s_per_in(clip: ClipFacts) -> float:
    return end_s(clip) / (WIDTH_IN * (RIGHT - LEFT))


def _frame_height_in(clip: ClipFacts, frames: Sequence[Image.Image]) -> float:
    """As tall as fits side by side, up to FRAME_IN."""
    slot_s, _ = _slot(clip, len(frames), 0)
    return min(FRAME_IN, 0.95 * slot_s / _s_per_in(clip) * frames[0].height / frames[0].width)


def _draw_frames(
    axes: Axes,
    frames: Sequence[Image.Image],
    height_in: float,
    clip: ClipFacts,
    drawn: Sequence[int],
    colours: Sequence[Any],
) -> None:
    """Frames side by side over the clip's duration; x is seconds, y is inches."""
    axes.set_axis_off()
    half_s = height_in * frames[0].width / frames[0].height * _s_per_in(clip) / 2
    for slot, (number, frame) in enumerate(zip(drawn, frames, strict=True)):
        _, centre_s = _slot(clip, len(frames), slot)
        axes.imshow(frame, extent=(centre_s - half_s, centre_s + half_s, 0, height_in), aspect="auto")
        # A line in the frame's colour, which leads to its window.
        axes.plot([centre_s - half_s, centre_s + half_s], [0, 0], color=colours[slot], linewidth=5)
        label = f"{clip.frame_pts_s[number]:.2f} s"
        axes.text(centre_s, height_in, label, ha="center", va="bottom", fontsize=7, color="#444444")
    axes.set_ylim(0, height_in)


def _slot(clip: ClipFacts, num_frames: int, slot: int) -> tuple[float, float]:
    """Width and centre, in seconds, of the slot in which a frame is drawn."""
    slot_s = clip.duration_s / num_frames
    return slot_s, (slot + 0.5) * slot_s


def _draw_mel(axes: Axes, mel: np.ndarray) -> None:
    values = mel.astype(np.float32).T
    axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap="magma",
        interpolation="nearest",
        extent=(0, len(mel) / MEL_ROWS_PER_S, 0, len(values)),
    )
    axes.set_ylabel("mel band", fontsize=8)
    axes.set_xticks([])
    axes.tick_params(labelsize=7)
    axes.set_facecolor("#eeeeee")  # where a window goes past the audio


def _draw_windows(axes: Axes, clip: ClipFacts, drawn: Sequence[int], colours: Sequence[Any]) -> None:
    """One bar a frame: the rows of the log-mel that belong to it, and where in them the frame is."""
    for position, (number, colour) in enumerate(zip(drawn, colours, strict=True)):
        start, stop = (rows[number] / MEL_ROWS_PER_S for rows in (clip.window_start, clip.window_stop))
        axes.barh(-position, stop - start, left=start, height=0.62, color=colour, alpha=0.75)
        axes.plot([clip.frame_pts_s[number]], [-position], "|", color="black", markersize=4)
    axes.set_ylim(-len(drawn) + 0.3, 0.7)
    axes.set_yticks([])
    axes.set_ylabel("windows", fontsize=8)
    axes.set_xlabel("seconds", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _connect(
    frame_axes: Axes, mel: Axes, clip: ClipFacts, drawn: Sequence[int], colours: Sequence[Any]
) -> None:
    """From each frame to its own time, and down through the log-mel."""
    top = mel.get_ylim()[1]
    for slot, (number, colour) in enumerate(zip(drawn, colours, strict=True)):
        time_s = clip.frame_pts_s[number]
        _, centre_s = _slot(clip, len(drawn), slot)
        if 0 <= time_s <= end_s(clip):
            mel.axvline(time_s, color=colour, linewidth=0.8, linestyle=":")
            line = ConnectionPatch(
                (centre_s, 0), (time_s, top), "data", "data", axesA=frame_axes, axesB=mel, color=colour
            )
            mel.add_artist(line)


def _titled(row: IndexRow, plot: Image.Image | None) -> Image.Image:
    width, height = plot.size if plot else (round(WIDTH_IN * DPI), 4)
    whole = Image.new("RGB", (width, height + TITLE_PX), "white")
    font = ImageFont.truetype(findfont("DejaVu Sans"), 15)
    colour = "#1f2933" if plot else "#b83b4b"
    ImageDraw.Draw(whole).text((round(width * LEFT), 8), title(row)[:150], fill=colour, font=font)
    if plot:
        whole.paste(plot, (0, TITLE_PX))
    return whole
