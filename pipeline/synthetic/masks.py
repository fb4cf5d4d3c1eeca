"""Mask files: one palette PNG a clip, with its frames in a column."""

import colorsys
import json
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cavsync.pipeline.media.frame_selection import SAME_INSTANT_S
from cavsync.pipeline.synthetic.classes import CLASS_IDS, CLASSES, MUTE_ID
from cavsync.pipeline.synthetic.config import WorldError

# Key of the PNG's text chunk with the times of the frames.
_TIMES = "picture_times_s"


def write_masks(path: Path, masks: np.ndarray, frame_times_s: np.ndarray) -> None:
    """Write masks (n, height, width) uint8 and their times (n,)."""
    image = Image.fromarray(masks.reshape(-1, masks.shape[-1])).convert("P")
    image.putpalette(_palette())
    info = PngInfo()
    info.add_text(_TIMES, json.dumps([round(float(time_s), 6) for time_s in frame_times_s]))
    image.save(path, format="PNG", pnginfo=info)


def read_masks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) in seconds and masks (n, height, width): 0 background, class index + 1, 255 a mute shape."""
    with Image.open(path) as image:
        times = image.info.get(_TIMES)
        if times is None:
            raise WorldError(f"{path} is no mask file of a world: it has no {_TIMES}")
        times_s, column = np.array(json.loads(times)), np.asarray(image)
    return times_s, column.reshape(len(times_s), -1, column.shape[1])


def on_screen(times_s: np.ndarray, instants_s: np.ndarray) -> np.ndarray:
    """Indices, (instants,), of the frames on screen at `instants_s`; the n frames begin at `times_s`."""
    indices: np.ndarray = np.searchsorted(times_s, instants_s + SAME_INSTANT_S, side="right") - 1
    return indices


def _palette() -> list[int]:
    """256 RGB triples: black, the colour of each class, pale grey for mute shapes."""
    colours = np.zeros((256, 3), np.uint8)
    for sounding in CLASSES:
        colours[CLASS_IDS[sounding.name]] = np.array(colorsys.hsv_to_rgb(sounding.hue, 0.9, 0.9)) * 255
    colours[MUTE_ID] = 190
    return [int(value) for value in colours.ravel()]
