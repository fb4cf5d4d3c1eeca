"""Scales a decoded frame and encodes it as the JPEG that a shard holds."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from cavsync.pipeline.dataset.choices import Crop
from cavsync.pipeline.dataset.schema import ClipState, MediaError

# A broken header may claim a frame of any shape; one longer than this many short sides is refused.
MAX_SIDES = 16
# Frames whose mean grey levels (of 255) differ by less than this from the first are one still image.
STILL_DIFFERENCE = 1.0


class FrameScaler:
    """Decoded frames to small RGB images, as a player shows them.

    One a clip: it keeps libswscale's tables from frame to frame.
    """

    def __init__(self, sample_aspect_ratio: Fraction, short_side: int, crop: Crop) -> None:
        """`sample_aspect_ratio` is that of the stored pixels, width to height."""
        self._ratio, self._short_side, self._crop = float(sample_aspect_ratio), short_side, crop
        self._scale, self._colour = VideoReformatter(), VideoReformatter()
        self.orientation = 1  # of the last frame, as in EXIF

    def rgb(self, frame: av.VideoFrame, applied: int | None = None) -> np.ndarray:
        """(height, width, 3) uint8: upright, its short side as asked for, its centre square when cropped.

        `applied` is the orientation by which the frame was turned already, if it was.
        """
        shown_width = frame.width * (1 / self._ratio if (applied or 1) >= 5 else self._ratio)
        factor = self._short_side / min(shown_width, frame.height)
        width, height = round(shown_width * factor), round(frame.height * factor)
        if max(width, height) > MAX_SIDES * self._short_side:
            raise MediaError(
                ClipState.DECODE_ERROR, f"{shown_width:g} x {frame.height} pixels are no frame of a video"
            )
        # Scaling in YUV and converting after is four times cheaper than both at once, and JPEG keeps no finer
        # colour. libswscale widens the bicubic kernel when it shrinks, so this does not alias.
        bicubic = {"interpolation": Interpolation.BICUBIC, "threads": 1}
        small = self._scale.reformat(frame, width, height, format="yuv420p", **bicubic)
        rgb = self._colour.reformat(small, format="rgb24", **bicubic).to_ndarray()
        self.orientation = applied or orientation(small)
        upright = rgb if applied else turned(rgb, self.orientation)
        return upright if self._crop == "none" else self._centre(upright)

    def _centre(self, rgb: np.ndarray) -> np.ndarray:
        side = self._short_side
        top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
        return rgb[top : top + side, left : left + side]


def orientation(frame: av.VideoFrame) -> int:
    """How a player turns and mirrors the frame, by the display matrix of its file: 1 to 8, as in EXIF."""
    try:
        side_data: Any = frame.side_data
    except ValueError:  # PyAV does not know all kinds of side data, such as the EXIF of a JPEG
        return {90: 8, -90: 6, 180: 3, -180: 3}.get(90 * round(frame.rotation / 90), 1)
    if SideDataType.DISPLAYMATRIX not in side_data:
        return 1
    matrix = side_data[SideDataType.DISPLAYMATRIX]
    # A point (x, y), y downwards, is shown at (a x + c y, b x + d y); the third column is of no affine matrix.
    a, b, _, c, d = (int(one) for one in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return {(True, True): 1, (False, True): 2, (False, False): 3, (True, False): 4}[a >= 0, d >= 0]
    return {(True, True): 5, (True, False): 6, (False, False): 7, (False, True): 8}[b >= 0, c >= 0]


def turned(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """(height, width, 3) as a player shows a stored image of that orientation; 5 to 8 exchange height and width."""
    straight = rgb.transpose(1, 0, 2) if orientation >= 5 else rgb
    mirror_x, mirror_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return straight[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]


def jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """JPEG with 4:2:0 colour, the same bytes for the same (height, width, 3) uint8 image."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def is_still(frames: list[np.ndarray]) -> bool:
    """Whether all (height, width, 3) uint8 frames show the same, up to the noise of a codec."""
    # Every fourth pixel is enough to see a change and costs a sixteenth.
    first, *others = (frame[::4, ::4] for frame in frames)
    return all(np.abs(other.astype(np.int16) - first).mean() < STILL_DIFFERENCE for other in others)
