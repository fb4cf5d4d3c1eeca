"""The query of a search: an image, audio or a video as unit vectors."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.windows import Window
from cavsync.pipeline.media.frame_images import jpeg
from cavsync.train.embedding.embedder import Embedder, FileEmbeddings

# Pillow knows more, and runs other programs for some of them.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
JPEG_QUALITY = 95

Kind = Literal["image", "audio", "video", "muted video"]


class QueryError(CavsyncError):
    """A file that cannot be the query of a search."""


@dataclass(frozen=True)
class SearchQuery:
    """At least one of the two vectors is there."""

    path: Path
    kind: Kind
    audio: np.ndarray | None  # (D,)
    image: np.ndarray | None  # (D,)


def read_query(path: Path, embedder: Embedder) -> SearchQuery:
    """Of a video or an audio file the query is the mean of the windows. Raises QueryError for what is none of the three."""
    if not path.is_file():
        raise QueryError(f"{path} is not there: the query is an image, an audio file or a video.")
    image = _read_image(path)
    if image is not None:
        (vector,) = embedder.embed_frames([Window(0.0, 0.0, 0.0, image, None)])
        return SearchQuery(path, "image", None, vector)
    try:
        with DecoderProcess() as decoder:
            windows = embedder.embed(path, decoder)
    except MediaError as error:
        raise QueryError(
            f"{path} is neither an image nor audio nor a video that can be read: {error}"
        ) from error
    return _mean_query(path, windows)


def _mean_query(path: Path, windows: FileEmbeddings) -> SearchQuery:
    audio, image = (
        _mean(vectors[there])
        for vectors, there in ((windows.audio, windows.has_audio), (windows.image, windows.has_image))
    )
    if audio is None and image is None:
        raise QueryError(
            f"{path} has no frames and is silent from beginning to end, so nothing can be searched with it."
        )
    kind: Kind = "muted video" if audio is None else "audio" if image is None else "video"
    return SearchQuery(path, kind, audio, image)


def _mean(vectors: np.ndarray) -> np.ndarray | None:
    if not len(vectors):
        return None
    mean = vectors.mean(axis=0)
    unit: np.ndarray = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def _read_image(path: Path) -> bytes | None:
    """As JPEG; None for a file that is no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                upright = ImageOps.exif_transpose(image)  # phones store the rotation beside the pixels
                return jpeg(np.array(upright.convert("RGB")), JPEG_QUALITY)
    except UnidentifiedImageError:
        return None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise QueryError(f"{path} has too many pixels: {error} Make it smaller.") from error
    except (OSError, SyntaxError) as error:  # Pillow raises both for broken images
        raise QueryError(f"{path} cannot be read as an image: {error}") from error
