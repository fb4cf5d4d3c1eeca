"""Reads the image and the audio of a localisation row, from image and audio files or from whole videos."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as images

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.process import DecoderProcess
from cavsync.pipeline.decoding.requests import EvenFrames, SegmentRequest
from cavsync.train.choices import Geometry
from cavsync.train.data.images import fit
from cavsync.train.evaluation.heatmaps.audio_prompt import AudioSegments, PromptReader
from cavsync.train.evaluation.heatmaps.image_files import open_rgb
from cavsync.train.evaluation.localization.boxes import BoxRow

# Of a 10-s video the one image is the frame at 5 s, the instant that the boxes of VGG-SS were drawn at.
CLIP_S, MIN_CLIP_S = 10.0, 1.0
FRAME_SIDE, JPEG_QUALITY = 256, 95


@dataclass(frozen=True)
class BoxMedia:
    """Files of a benchmark's folder."""

    root: Path
    side: int  # of the model's images
    geometry: Geometry
    decoder: DecoderProcess

    def missing(self, row: BoxRow) -> str | None:
        """Names the files of the row that are not there; None if all are."""
        wanted = ((self._frame(row), row.image), (self._audio(row), row.audio))
        absent = [
            str(path) for path, name in wanted if not path.is_file() and not self._video(name).is_file()
        ]
        return f"{' and '.join(absent)} not there, nor a video in {self.root / 'videos'}" if absent else None

    def image(self, row: BoxRow) -> Tensor:
        """uint8 (side, side, 3): the whole image squeezed into a square (ez-vsl), or its centre (lvs).

        Raises RowError or MediaError.
        """
        path = self._frame(row)
        image = open_rgb(path) if path.is_file() else self._middle_frame(self._video(row.image))
        if self.geometry == "lvs":
            return fit(image, self.side)
        square: Tensor = images.resize(image.permute(2, 0, 1), [self.side, self.side], antialias=True)
        return square.permute(1, 2, 0)

    def audio(self, row: BoxRow, reader: PromptReader) -> AudioSegments:
        """Raises MediaError."""
        path = self._audio(row)
        return reader.read(path if path.is_file() else self._video(row.audio), self.decoder)

    def _middle_frame(self, video: Path) -> Tensor:
        """uint8 (height, width, 3)."""
        request = SegmentRequest(
            video, 0.0, CLIP_S, EvenFrames(1), FRAME_SIDE, crop="none", jpeg_quality=JPEG_QUALITY
        )
        try:
            segment = self.decoder.read(request)
            segment.shared_s(MIN_CLIP_S)
        except MediaError as error:
            raise MediaError(error.state, f"{video}: {error.reason}") from error
        ((_, jpeg),) = segment.shown
        return torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)).convert("RGB")))

    def _frame(self, row: BoxRow) -> Path:
        return self.root / "frames" / f"{row.image}.jpg"

    def _audio(self, row: BoxRow) -> Path:
        return self.root / "audio" / f"{row.audio}.wav"

    def _video(self, name: str) -> Path:
        return self.root / "videos" / f"{name}.mp4"
