"""Plots and images as the bytes that a page holds."""

import io

from matplotlib.figure import Figure
from PIL import Image

DPI = 110
JPEG_QUALITY = 80
THUMBNAIL_SIDE_PX = 112


def png(drawn: Figure | Image.Image) -> bytes:
    """A plot or an image as PNG."""
    buffer = io.BytesIO()
    if isinstance(drawn, Figure):
        drawn.savefig(buffer, format="png", dpi=DPI)
    else:
        drawn.save(buffer, "PNG")
    return buffer.getvalue()


def media_type(content: bytes) -> str:
    """Such as "image/png", of a PNG or a JPEG."""
    return Image.MIME[Image.open(io.BytesIO(content)).format or ""]


def size_px(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG or a JPEG."""
    return Image.open(io.BytesIO(content)).size


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def thumbnail(frame: bytes, side_px: int = THUMBNAIL_SIDE_PX) -> bytes:
    """A JPEG frame of a shard, smaller: a page holds hundreds."""
    image = Image.open(io.BytesIO(frame)).convert("RGB")
    image.thumbnail((side_px, side_px))
    return jpeg(image)
