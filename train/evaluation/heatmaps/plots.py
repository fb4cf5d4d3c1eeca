"""Plots of heatmaps over their image, beside the outline of the truth."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from cavsync.train.reporting.images import png

PANEL_INCHES, TITLE_INCHES = 2.3, 0.25
TRUTH_COLOUR = "#ffffff"


def heatmap_row(image: np.ndarray, truth: np.ndarray, maps: Mapping[str, np.ndarray]) -> bytes:
    """The (side, side, 3) image with the outline of the (side, side) truth, then each heatmap over it, as PNG.

    Colours run from the least to the greatest value of each heatmap: dark is cold, yellow is hot.
    """
    height = PANEL_INCHES + TITLE_INCHES
    figure = Figure(figsize=(PANEL_INCHES * (len(maps) + 1), height))
    # Matplotlib's own layout measures ticks that nobody sees, and takes half of the time of drawing.
    grid = {"left": 0.0, "right": 1.0, "bottom": 0.0, "top": PANEL_INCHES / height, "wspace": 0.04}
    no_ticks: dict[str, list[float]] = {"xticks": [], "yticks": []}
    panels = np.atleast_1d(figure.subplots(1, len(maps) + 1, gridspec_kw=grid, subplot_kw=no_ticks))
    extent = (0, 1, 1, 0)
    for axes, (title, heatmap) in zip(panels, [("image", None), *maps.items()], strict=True):
        axes.imshow(image if heatmap is None else image.mean(axis=-1), cmap="gray", extent=extent)
        if heatmap is not None:
            axes.imshow(heatmap, cmap="inferno", alpha=0.72, extent=extent, interpolation="bilinear")
        _outline(axes, truth)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    return png(figure)


def _outline(axes: object, truth: np.ndarray) -> None:
    """A white line on a dark one, seen on any ground; nothing where the truth is empty or everything."""
    if truth.min() == truth.max():
        return
    # A margin of nothing, so that the line closes where the truth meets the image's edge.
    padded = np.pad(truth.astype(float), 1)
    centres = (np.arange(len(padded)) - 0.5) / len(truth)
    for colour, width in (("#000000", 2.6), (TRUTH_COLOUR, 1.2)):
        axes.contour(centres, centres, padded, levels=[0.25], colors=colour, linewidths=width)  # type: ignore[attr-defined]
    axes.set_xlim(0, 1)  # type: ignore[attr-defined]
    axes.set_ylim(1, 0)  # type: ignore[attr-defined]
