"""A stretch of a file that has pictures, sound or both. Loads no decoder.

Other than a clip of a dataset, which needs both, a file of one's own may be muted, or a sound alone.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Stretch:
    """What a file holds of a span; times are seconds from the file's start."""

    start_s: float
    times_s: tuple[float, ...]  # when the asked pictures came on screen; fewer where the pictures have ended
    pictures: tuple[bytes, ...]  # JPEG
    pictures_end_s: float | None  # the span's end at the latest; None for a file without pictures
    waveform: np.ndarray  # (samples,) float32 at 16 kHz, from `start_s` to the end of its sound
    sound_end_s: float | None  # as `pictures_end_s`

    @property
    def end_s(self) -> float:
        """Where both have ended."""
        return max(self.pictures_end_s or self.start_s, self.sound_end_s or self.start_s)


@dataclass(frozen=True)
class StretchRequest:
    """Asks a decoder's process for [start_s, start_s + duration_s) of a file, and its pictures at some instants."""

    path: Path
    start_s: float
    duration_s: float
    instants_s: tuple[float, ...]  # ascending
    side: int  # pixels of the pictures' sides, which are cropped to a square
    timeout_s: float = 120.0

    @property
    def title(self) -> str:
        return f"File {self.path}"

    def answer(self) -> Stretch:
        from cavsync.pipeline.decoding.span import read_stretch

        return read_stretch(self)
