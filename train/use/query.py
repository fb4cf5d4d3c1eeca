"""What is searched for: a picture, a sound or a video as unit vectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cavsync.pipeline.decoder_process import DecoderProcess
from cavsync.pipeline.errors import CavsyncError
from cavsync.pipeline.pictures import jpeg
from cavsync.pipeline.schema import MediaError
from cavsync.pipeline.sweep import Window
from cavsync.train.use.embedder import Embedder, FileWindows

# Far above what is looked at; a model sees a few hundred pixels.
MAX_PIXELS = 200_000_000
JPEG_QUALITY = 95


class QueryError(CavsyncError):
    """Something that cannot be searched for."""


@dataclass(frozen=True)
class Query:
    """Either vector may be missing, not both."""

    path: Path
    audio: np.ndarray | None  # (D,)
    image: np.ndarray | None  # (D,)

    @property
    def kind(self) -> str:
        if self.audio is None:
            return "picture"
        return "sound" if self.image is None else "video"


def read_query(path: Path, embedder: Embedder) -> Query:
    """A video or a sound is the mean of its windows. Raises QueryError for what is none of the three."""
    if not path.is_file():
        raise QueryError(f"{path} is not there: the query is a picture, a sound or a video.")
    picture = _read_picture(path)
    if picture is not None:
        (vector,) = embedder.encode_pictures([Window(0.0, 0.0, 0.0, picture, None)])
        return Query(path, None, vector)
    try:
        with DecoderProcess() as decoder:
            windows = embedder.embed(path, decoder)
    except MediaError as error:
        raise QueryError(
            f"{path} is neither a picture nor a sound nor a video that can be read: {error}"
        ) from error
    return _mean_query(path, windows)


def _mean_query(path: Path, windows: FileWindows) -> Query:
    audio, image = (
        _mean(vectors[there])
        for vectors, there in ((windows.audio, windows.has_audio), (windows.image, windows.has_image))
    )
    if audio is None and image is None:
        raise QueryError(
            f"{path} shows nothing and is silent from beginning to end: there is nothing to search for."
        )
    return Query(path, audio, image)


def _mean(vectors: np.ndarray) -> np.ndarray | None:
    if not len(vectors):
        return None
    mean = vectors.mean(axis=0)
    unit: np.ndarray = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def _read_picture(path: Path) -> bytes | None:
    """As JPEG; None for what is no picture."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise QueryError(
                    f"{path} has {image.width} x {image.height} pixels, too many; make it smaller."
                )
            return jpeg(np.array(image.convert("RGB")), JPEG_QUALITY)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return None
    except (OSError, SyntaxError) as error:  # Pillow's words for a broken picture
        raise QueryError(f"{path} cannot be read as a picture: {error}") from error
