"""What is searched for: a picture, a sound or a video as unit vectors."""

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
from cavsync.pipeline.media.frames import jpeg
from cavsync.train.embedding.embedder import Embedder, FileEmbeddings

# Pillow knows more, and runs other programs for some of them.
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
JPEG_QUALITY = 95

Kind = Literal["picture", "sound", "video", "muted video"]


class QueryError(CavsyncError):
    """Something that cannot be searched for."""


@dataclass(frozen=True)
class Query:
    """Either vector may be missing, not both."""

    path: Path
    kind: Kind
    audio: np.ndarray | None  # (D,)
    image: np.ndarray | None  # (D,)


def read_query(path: Path, embedder: Embedder) -> Query:
    """A video or a sound is the mean of its windows. Raises QueryError for what is none of the three."""
    if not path.is_file():
        raise QueryError(f"{path} is not there: the query is a picture, a sound or a video.")
    picture = _read_picture(path)
    if picture is not None:
        (vector,) = embedder.encode_pictures([Window(0.0, 0.0, 0.0, picture, None)])
        return Query(path, "picture", None, vector)
    try:
        with DecoderProcess() as decoder:
            windows = embedder.embed(path, decoder)
    except MediaError as error:
        raise QueryError(
            f"{path} is neither a picture nor a sound nor a video that can be read: {error}"
        ) from error
    return _mean_query(path, windows)


def _mean_query(path: Path, windows: FileEmbeddings) -> Query:
    audio, image = (
        _mean(vectors[there])
        for vectors, there in ((windows.audio, windows.has_audio), (windows.image, windows.has_image))
    )
    if audio is None and image is None:
        raise QueryError(
            f"{path} shows nothing and is silent from beginning to end: there is nothing to search for."
        )
    kind: Kind = "muted video" if audio is None else "sound" if image is None else "video"
    return Query(path, kind, audio, image)


def _mean(vectors: np.ndarray) -> np.ndarray | None:
    if not len(vectors):
        return None
    mean = vectors.mean(axis=0)
    unit: np.ndarray = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def _read_picture(path: Path) -> bytes | None:
    """As JPEG; None for what is no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                upright = ImageOps.exif_transpose(image)  # phones write how to turn the picture
                return jpeg(np.array(upright.convert("RGB")), JPEG_QUALITY)
    except UnidentifiedImageError:
        return None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise QueryError(f"{path} has too many pixels: {error} Make it smaller.") from error
    except (OSError, SyntaxError) as error:  # Pillow's words for a broken picture
        raise QueryError(f"{path} cannot be read as a picture: {error}") from error
