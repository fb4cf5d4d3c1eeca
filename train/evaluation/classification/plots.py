"""Plots of classification: a clip beside its likeliest classes, and the confusion matrix."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cavsync.pipeline.dataset.reader import ClipContent
from cavsync.train.reporting.images import png

FRAMES_SHOWN = 4
RIGHT_COLOUR, WRONG_COLOUR = "#2f855a", "#b83b4b"
MAX_NAME = 34  # letters of a class that fit


def answer_plot(clip: ClipContent, answers: Sequence[tuple[str, float, bool]]) -> bytes:
    """Frames over the log-mel; beside them the (name, probability, whether right) of the likeliest classes."""
    figure = Figure(figsize=(11, 1.9), layout="constrained")
    grid = figure.add_gridspec(
        2, FRAMES_SHOWN + 1, height_ratios=[2.6, 1], width_ratios=[1] * FRAMES_SHOWN + [4]
    )
    shown = np.linspace(0, len(clip.frames) - 1, FRAMES_SHOWN).round().astype(int)
    for column, number in enumerate(shown.tolist()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(Image.open(io.BytesIO(clip.frames[number])))
        axes.set_axis_off()
    axes = figure.add_subplot(grid[1, :FRAMES_SHOWN])
    axes.imshow(clip.mel.astype(np.float32).T, origin="lower", aspect="auto", cmap="magma")
    axes.set_axis_off()
    _draw_answers(figure.add_subplot(grid[:, FRAMES_SHOWN]), answers)
    return png(figure)


def confusion_matrix(probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> bytes:
    """Rows: the classes of (N, C) truth; columns: the likeliest class of (N, C) probabilities, as PNG.

    A clip counts for each class it has.
    """
    chosen = np.eye(len(names))[probabilities.argmax(axis=1)]
    counts = truth.astype(float).T @ chosen
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.26 * len(names)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    ticks, titles = range(len(names)), [_short(name) for name in names]
    axes.set_xticks(ticks, titles, rotation=90, fontsize=7)
    axes.set_yticks(ticks, titles, fontsize=7)
    for row, column in np.argwhere(counts):
        colour = "white" if fractions[row, column] > 0.5 else "#1f2933"
        axes.text(
            column, row, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=6, color=colour
        )
    return png(figure)


def _draw_answers(axes: Axes, answers: Sequence[tuple[str, float, bool]]) -> None:
    for position, (name, probability, right) in enumerate(answers):
        axes.barh(-position, probability, color=RIGHT_COLOUR if right else WRONG_COLOUR, height=0.62)
        inside = probability > 0.5
        axes.text(
            probability + (-0.015 if inside else 0.015),
            -position,
            f"{_short(name)}  {probability:.2f}",
            ha="right" if inside else "left",
            va="center",
            color="white" if inside else "#1f2933",
        )
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=7)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
