"""The folder that `cavsync localize` writes: overlay.mp4, frames, maps.npz, report.json and report.html.

maps.npz holds, for W windows:

    start_s, end_s, frame_s   (W,) the window of audio, and when its frame came on screen; seconds from the start
    map_<method>              (W, rows, columns) float32, NaN where there is no frame or no audio
    similarity                (W,) cosine of frame and audio, NaN as above
    passes                    (W,) bool: from the threshold on; all scored windows where nothing was calibrated, or the
                              video is unlike what was
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cavsync.pipeline.storage.atomic import AtomicWriter, write_atomically
from cavsync.train.data.images import decode_jpeg
from cavsync.train.evaluation.heatmaps.plots import heatmap_set
from cavsync.train.inference.localize.localized_video import LocalizedVideo
from cavsync.train.inference.localize.overlay import write_overlay
from cavsync.train.inference.localize.report import OVERLAY, localized_result
from cavsync.train.reporting.images import png
from cavsync.train.reporting.inputs import ResultInputs
from cavsync.train.reporting.page import ImageSet
from cavsync.train.reporting.record import Record, write_evaluation

MAPS, FRAMES = "maps.npz", "frames"
# Windows whose frames are shown, spread evenly over the scored ones.
MAX_FRAMES = 8
SIDE_PX = 224


def write_localized(
    found: LocalizedVideo,
    out: Path,
    on_second: Callable[[int, int], None] = lambda done, total: None,
    inputs: ResultInputs | None = None,
) -> Record:
    """Writes everything in `out`; returns the record of report.json. The overlay shows the first method."""
    damage = write_overlay(found, next(iter(found.maps)), out / OVERLAY, on_second)
    write_maps(found, out / MAPS)
    stills = frame_images(found)
    for still, number in zip(stills, shown_windows(found), strict=True):
        write_atomically(out / FRAMES / f"{found.frame_s[number]:09.2f}s.png", side_by_side(still))
    return write_evaluation(localized_result(found, stills, damage), out, inputs)


def write_maps(found: LocalizedVideo, path: Path) -> None:
    arrays: dict[str, Any] = {
        name: getattr(found, name) for name in ("start_s", "end_s", "frame_s", "similarity", "passes")
    }
    arrays |= {f"map_{method}": cells for method, cells in found.maps.items()}
    with AtomicWriter(path) as output:
        np.savez_compressed(output.file, **arrays)
        output.publish()


def shown_windows(found: LocalizedVideo) -> list[int]:
    """Indices of the windows whose frames are shown."""
    scored = np.flatnonzero(found.is_scored)
    indices = np.linspace(0, len(scored) - 1, min(MAX_FRAMES, len(scored))).round().astype(int)
    chosen: list[int] = scored[indices].tolist()
    return chosen


def frame_images(found: LocalizedVideo) -> list[ImageSet]:
    """Each shown window's frame, and the heatmap of each method over it."""
    nowhere = np.zeros((SIDE_PX, SIDE_PX), bool)
    stills = []
    for number in shown_windows(found):
        jpeg = found.frames[number]
        assert jpeg is not None
        maps: dict[str, np.ndarray] = {method: cells[number] for method, cells in found.maps.items()}
        caption = f"{found.frame_s[number]:.2f} s: {_caption(found, number)}"
        stills.append(heatmap_set(decode_jpeg(bytearray(jpeg)).numpy(), nowhere, maps, caption))
    return stills


def side_by_side(still: ImageSet) -> bytes:
    """Its images beside each other, as one PNG."""
    images = [Image.open(io.BytesIO(one.content)) for one in still.images]
    row = Image.new("RGB", (sum(one.width for one in images), images[0].height))
    for number, image in enumerate(images):
        row.paste(image, (number * image.width, 0))
    return png(row)


def _caption(found: LocalizedVideo, number: int) -> str:
    verdict = "from the threshold on" if found.passes[number] else "nothing here sounds like this"
    return f"similarity {found.similarity[number]:.2f}" + (
        "" if found.verdict == "cannot tell" else f", {verdict}"
    )
