"""Scales a decoded frame and encodes it as the JPEG that a shard holds."""

import io

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from cavsync.pipeline.dataset.choices import Crop
from cavsync.pipeline.dataset.schema import ClipState, MediaError

# A broken header may claim a frame of any shape; one longer than this many short sides is refused.
MAX_SIDES = 16
# Frames whose mean grey levels (of 255) differ by less than this from the first are one still image.
STILL_DIFFERENCE = 1.0


class FrameScaler:
    """Decoded frames to small RGB images. One a clip: it keeps libswscale's tables from frame to frame."""

    def __init__(self, short_side: int, crop: Crop) -> None:
        self._short_side, self._crop = short_side, crop
        self._scale, self._colour = VideoReformatter(), VideoReformatter()

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """(height, width, 3) uint8: upright, its short side as asked for, its centre square when cropped."""
        factor = self._short_side / min(frame.width, frame.height)
        width, height = round(frame.width * factor), round(frame.height * factor)
        if max(width, height) > MAX_SIDES * self._short_side:
            raise MediaError(
                ClipState.DECODE_ERROR, f"{frame.width} x {frame.height} pixels are no frame of a video"
            )
        # Scaling in YUV and converting after is four times cheaper than both at once, and JPEG keeps no finer
        # colour. libswscale widens the bicubic kernel when it shrinks, so this does not alias.
        bicubic = {"interpolation": Interpolation.BICUBIC, "threads": 1}
        small = self._scale.reformat(frame, width, height, format="yuv420p", **bicubic)
        upright = np.rot90(
            self._colour.reformat(small, format="rgb24", **bicubic).to_ndarray(), frame.rotation // 90
        )
        return upright if self._crop == "none" else self._centre(upright)

    def _centre(self, rgb: np.ndarray) -> np.ndarray:
        side = self._short_side
        top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
        return rgb[top : top + side, left : left + side]


def jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """JPEG with 4:2:0 colour, the same bytes for the same (height, width, 3) uint8 image."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def is_still(frames: list[np.ndarray]) -> bool:
    """Whether all (height, width, 3) uint8 frames show the same, up to the noise of a codec."""
    # Every fourth pixel is enough to see a change and costs a sixteenth.
    thumbnails = [frame[::4, ::4].astype(np.int16) for frame in frames]
    return all(np.abs(one - thumbnails[0]).mean() < STILL_DIFFERENCE for one in thumbnails[1:])
