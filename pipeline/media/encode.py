"""Writes mp4, mp3 and wav files.

FFmpeg's AAC encoder puts 1024 samples of priming before the audio and stamps them with negative times; the
mp4 muxer turns those into an edit list, so that the audio begins with the first frame again.
"""

import io
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ

# One thread: with more, x264's bytes depend on how many there are.
H264_OPTIONS = {"preset": "veryfast", "crf": "20", "threads": "1"}
KEYFRAME_INTERVAL = 30  # frames
AAC_BITS_PER_S = 64_000


class Mp4:
    """h264 frames of one size at a steady rate, and mono AAC; same input, same bytes. Use it in a `with` block."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float, sample_rate_hz: int) -> None:
        """`size` is (width, height), both even."""
        self._frame_duration_s = 1 / Fraction(fps).limit_denominator(1001)
        self._sample_rate_hz = sample_rate_hz
        self._num_frames = self._num_samples = 0
        self._container = av.open(str(path), "w", format="mp4")
        # Both streams must be known before the first packet is written.
        self._video: Any = self._container.add_stream(
            "libx264", rate=1 / self._frame_duration_s, options=H264_OPTIONS
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

    def add_frames(self, images: Iterable[np.ndarray]) -> None:
        """Appends (height, width, 3) uint8 images."""
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = self._num_frames, self._frame_duration_s
            self._container.mux(self._video.encode(frame))
            self._num_frames += 1

    def add_audio(self, waveform: np.ndarray) -> None:
        """Appends (samples,) float32 in [-1, 1]."""
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.pts, frame.sample_rate = self._num_samples, self._sample_rate_hz
        frame.time_base = Fraction(1, self._sample_rate_hz)
        self._container.mux(self._audio.encode(frame))
        self._num_samples += len(waveform)


# 10 s are 40 kB: speech and instruments stay what they are, and a page holds dozens.
BIT_RATE = 32_000


def mp3_bytes(waveform: np.ndarray) -> bytes:
    """A mono MP3 file of (samples,) in [-1, 1] at 16 kHz."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as file:
        stream: Any = file.add_stream("libmp3lame", rate=SAMPLE_RATE_HZ, bit_rate=BIT_RATE, layout="mono")
        samples = np.clip(waveform, -1, 1).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
        fifo = av.AudioFifo()
        fifo.write(frame)
        while (piece := fifo.read(stream.frame_size or 576, partial=True)) is not None:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def wav_bytes(waveform: np.ndarray) -> bytes:
    """A 16-bit mono WAV file of (samples,) in [-1, 1] at 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
