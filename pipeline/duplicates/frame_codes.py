"""Codes of frames: the signs of their 64 lowest spatial frequencies, which other sizes and encodings keep.

The central square of a frame is described, without black bars, so that frames that were stored whole, cropped or padded
compare. A mirrored frame has the same frequencies, those of an odd number of half periods across with the other sign: the
code of the mirrored frame follows from that of the frame.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn

from cavsync.pipeline.duplicates.audio_codes import sign_codes

SIDE_PX = 32
NUM_FREQUENCIES = 8  # down, and across
# Bits of 1, 3, 5 and 7 half periods across, in each of the eight rows.
MIRROR = np.uint64(0x5555555555555555)
# Levels of 256: the deviation of a frame within those frequencies, for it to have a code. Black and blank ones have less.
MIN_CONTRAST = 4.0
MAX_BLACK = 24  # of 256: a row or column that is never brighter belongs to a bar
MIN_SHOWN = 0.4  # of the height or width; where less is left, the clip is dark and has no bars


def clip_spectra(frames: Sequence[bytes]) -> np.ndarray:
    """float32 (frames, 8, 8): the amplitude of each frequency down and across of each JPEG, in levels of 256, the mean as 0."""
    images = [_grey(frame) for frame in frames]
    down, across = _shown(images)
    width, height = across[1] - across[0], down[1] - down[0]
    side = min(width, height)
    left, top = across[0] + (width - side) / 2, down[0] + (height - side) / 2
    box = (left, top, left + side, top + side)
    size = (SIDE_PX, SIDE_PX)
    pixels = np.stack([np.asarray(image.resize(size, Image.Resampling.BOX, box)) for image in images])
    spectra: np.ndarray = dctn(pixels.astype(np.float32), axes=(1, 2), norm="ortho") / SIDE_PX
    spectra = spectra[:, :NUM_FREQUENCIES, :NUM_FREQUENCIES].copy()
    spectra[:, 0, 0] = 0
    return spectra


def frame_codes(spectra: np.ndarray) -> np.ndarray:
    """uint64 (frames,): the codes of (frames, 8, 8) spectra."""
    return sign_codes(spectra)


def have_contrast(spectra: np.ndarray) -> np.ndarray:
    """bool (frames,): whether frames of (frames, 8, 8) spectra show enough to be compared."""
    shown: np.ndarray = np.square(spectra.astype(np.float32)).sum((1, 2)) >= MIN_CONTRAST**2
    return shown


def mirrored(spectra: np.ndarray) -> np.ndarray:
    """The (..., 8, 8) spectra of the mirrored frames."""
    turned: np.ndarray = spectra * np.array([1, -1] * (NUM_FREQUENCIES // 2), spectra.dtype)
    return turned


def _grey(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    # Decoded at the smallest scale that is large enough, in a fraction of the time.
    image.draft("L", (SIDE_PX, SIDE_PX))
    return image.convert("L")


def _shown(images: Sequence[Image.Image]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows [start, stop) and columns [start, stop) that are not black in all of the images, which have one size."""
    brightest = np.max([np.asarray(image) for image in images], axis=0)
    return _lit(brightest.max(1)), _lit(brightest.max(0))


def _lit(line: np.ndarray) -> tuple[int, int]:
    lit = np.flatnonzero(line > MAX_BLACK)
    if not len(lit) or lit[-1] + 1 - lit[0] < MIN_SHOWN * len(line):
        return 0, len(line)
    # A bar's edge is blurred by a pixel.
    trimmed = int(lit[0] > 0), int(lit[-1] + 1 < len(line))
    return int(lit[0]) + trimmed[0], int(lit[-1]) + 1 - trimmed[1]
