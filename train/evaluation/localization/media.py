"""The image and the audio of a localisation row, from image and audio files or from whole videos."""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as pictures

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.media.decode import open_media
from cavsync.train.data.images import fit
from cavsync.train.evaluation.choices import Geometry
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments, PromptReader
from cavsync.train.evaluation.heatmaps.media import open_rgb
from cavsync.train.evaluation.localization.boxes import BoxRow

CLIP_S = 10.0
# Of a 10-s video the one picture is that at 5 s, the instant that the boxes of VGG-SS were drawn at.
MIDDLE_PICTURE = PrepareConfig(num_frames=1, crop="none", frame_size=256, jpeg_quality=95)


@dataclass(frozen=True)
class BoxMedia:
    """Files of a benchmark's folder."""

    root: Path
    side: int  # of the model's pictures
    geometry: Geometry

    def missing(self, row: BoxRow) -> str | None:
        """Names the files of the row that are not there; None if all are."""
        wanted = ((self._frame(row), row.image), (self._sound(row), row.audio))
        absent = [
            str(path) for path, name in wanted if not path.is_file() and not self._video(name).is_file()
        ]
        return f"{' and '.join(absent)} not there, nor a video in {self.root / 'videos'}" if absent else None

    def picture(self, row: BoxRow) -> Tensor:
        """uint8 (side, side, 3): the whole picture squeezed into a square (ez-vsl), or its centre (lvs).

        Raises RowError or MediaError.
        """
        path = self._frame(row)
        picture = open_rgb(path) if path.is_file() else _middle_picture(self._video(row.image))
        if self.geometry == "lvs":
            return fit(picture, self.side)
        square: Tensor = pictures.resize(picture.permute(2, 0, 1), [self.side, self.side], antialias=True)
        return square.permute(1, 2, 0)

    def sound(self, row: BoxRow, reader: PromptReader) -> AudioSegments:
        """Raises MediaError."""
        path = self._sound(row)
        return reader.read(path if path.is_file() else self._video(row.audio))

    def _frame(self, row: BoxRow) -> Path:
        return self.root / "frames" / f"{row.image}.jpg"

    def _sound(self, row: BoxRow) -> Path:
        return self.root / "audio" / f"{row.audio}.wav"

    def _video(self, name: str) -> Path:
        return self.root / "videos" / f"{name}.mp4"


@lru_cache(maxsize=1)
def _middle_picture(video: Path) -> Tensor:
    with open_media(video, MIDDLE_PICTURE.clip_timeout_s) as media:
        (jpeg,) = media.decode(0.0, CLIP_S, MIDDLE_PICTURE).frames
    return torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)).convert("RGB")))
