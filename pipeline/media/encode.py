"""An mp4 file, written piece by piece.

FFmpeg's AAC encoder puts 1024 samples of priming before the sound and stamps them with negative times; the
mp4 muxer turns those into an edit list, so that the sound begins with the first picture again.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

# One thread: with more, x264's bytes depend on how many there are.
H264_OPTIONS = {"preset": "veryfast", "crf": "20", "threads": "1"}
KEYFRAME_INTERVAL = 30  # pictures
AAC_BITS_PER_S = 64_000


class Mp4:
    """h264 pictures of one size at a steady rate, and mono AAC; same input, same bytes. Use it in a `with` block."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float, sample_rate_hz: int) -> None:
        """`size` is (width, height), both even."""
        self._picture_s = 1 / Fraction(fps).limit_denominator(1001)
        self._sample_rate_hz = sample_rate_hz
        self._num_pictures = self._num_samples = 0
        self._container = av.open(str(path), "w", format="mp4")
        # Both streams must be known before the first packet is written.
        self._video: Any = self._container.add_stream(
            "libx264", rate=1 / self._picture_s, options=H264_OPTIONS
        )
        self._video.width, self._video.height = size
        self._video.pix_fmt = "yuv420p"
        self._video.gop_size = KEYFRAME_INTERVAL
        self._audio: Any = self._container.add_stream("aac", rate=sample_rate_hz, layout="mono")
        self._audio.bit_rate = AAC_BITS_PER_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            for stream in (self._video, self._audio):
                self._container.mux(stream.encode())
        self._container.close()

    def show(self, pictures: Iterable[np.ndarray]) -> None:
        """The next (height, width, 3) uint8 pictures."""
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = self._num_pictures, self._picture_s
            self._container.mux(self._video.encode(frame))
            self._num_pictures += 1

    def play(self, waveform: np.ndarray) -> None:
        """The next (samples,) float32."""
        sound = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        sound.pts, sound.sample_rate = self._num_samples, self._sample_rate_hz
        sound.time_base = Fraction(1, self._sample_rate_hz)
        self._container.mux(self._audio.encode(sound))
        self._num_samples += len(waveform)
