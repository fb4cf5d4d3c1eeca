"""Heatmaps over their image, with the outline of the truth."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageFilter, ImageOps

from cavsync.train.reporting.images import jpeg
from cavsync.train.reporting.page import CaptionedImage, ImageSet

PANEL_PX = 256
COLOURS = mpl.colormaps["inferno"]
# A heatmap hides this fraction of the image, which is grey below it.
OPACITY = 0.72
# Widths of the outline, in pixels, odd: a white line on a dark one is seen on any ground.
LINES = (("#000000", 5), ("#ffffff", 3))


def heatmap_set(
    image: np.ndarray, truth: np.ndarray, maps: Mapping[str, np.ndarray], caption: str
) -> ImageSet:
    """The (side, side, 3) uint8 image, then each heatmap (rows, columns) over it; all with the outline of the (side, side) truth.

    Colours run from the least to the greatest value of each heatmap: dark is cold, yellow is hot.
    """
    panels = {"image": _sized(Image.fromarray(image))} | {
        title: _overlaid(image, heatmap) for title, heatmap in maps.items()
    }
    for panel in panels.values():
        _outline(panel, truth)
    return ImageSet([CaptionedImage(jpeg(panel), title) for title, panel in panels.items()], caption)


def _overlaid(image: np.ndarray, heatmap: np.ndarray) -> Image.Image:
    """(PANEL_PX, PANEL_PX): the (rows, columns) heatmap over the (side, side, 3) image."""
    low, high = float(heatmap.min()), float(heatmap.max())
    scaled = (heatmap - low) / max(high - low, 1e-12)
    smooth = np.asarray(_sized(Image.fromarray(scaled.astype(np.float32))))
    colours = Image.fromarray(np.ascontiguousarray(COLOURS(smooth, bytes=True)[..., :3]))
    return Image.blend(_sized(Image.fromarray(image).convert("L").convert("RGB")), colours, OPACITY)


def _outline(panel: Image.Image, truth: np.ndarray) -> None:
    """Draws the edge of the (side, side) truth; nothing where it is empty or everything."""
    if truth.min() == truth.max():
        return
    mask = Image.fromarray(truth.astype(np.uint8) * 255).resize(panel.size, Image.Resampling.NEAREST)
    # A margin of nothing, so that the line closes where the truth meets the image's edge.
    margin = max(width for _, width in LINES)
    padded = ImageOps.expand(mask, margin)
    for colour, width in LINES:
        grown, shrunk = (
            np.asarray(padded.filter(one(width))) for one in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
        )
        edge = Image.fromarray(np.where(grown > shrunk, 255, 0).astype(np.uint8))
        panel.paste(colour, mask=ImageOps.crop(edge, margin))


def _sized(image: Image.Image) -> Image.Image:
    return image.resize((PANEL_PX, PANEL_PX), Image.Resampling.BILINEAR)
