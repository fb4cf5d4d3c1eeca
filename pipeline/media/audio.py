"""Places decoded audio samples by their own times, and resamples them to 16 kHz."""

from typing import Any

import av
import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ, ClipState, MediaError

# Containers round times (Matroska to 1 ms): a smaller step than this is no gap, and closing it keeps the
# samples contiguous. What is larger is a real hole or overlap.
JITTER_S = 0.005
# What no recorder writes; a broken header's rate would claim gigabytes.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
# Full scale of each sample type that decoders produce; floats are in [-1, 1] already.
FULL_SCALE = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**63}
# What is resampled at a time: buffers of this size stay in the cache, and the allocator has them at hand.
PIECE_SAMPLES = 16_384


class AudioTrack:
    """One channel on the clip's clock, at the file's own rate, filled frame by frame.

    Sample n belongs to `start_s + n / rate`; where the file has no audio, it is 0.
    """

    def __init__(self, start_s: float, duration_s: float, channel: AudioChannel) -> None:
        self.start_s, self.duration_s, self.channel = start_s, duration_s, channel
        self.rate_hz = 0
        self._samples = np.zeros(0, np.float32)
        self._next: int | None = None  # where the frame after the last one belongs

    @property
    def end_s(self) -> float:
        """Where the audio ends, seconds from the clip's start; 0 when there is none."""
        return max(0, self._next or 0) / self.rate_hz if self.rate_hz else 0.0

    def add(self, frame: av.AudioFrame) -> None:
        """Raises MediaError when the sample rate changes or the frame has no time."""
        self._match_rate(frame)
        samples = one_channel(frame, self.channel)
        first = self._position(frame)
        if self._next is not None and first < self._next:  # an overlap: what is there stays
            samples, first = samples[self._next - first :], self._next
        self._next = max(self._next or first, first + len(samples))
        samples, first = samples[max(0, -first) :], max(0, first)
        room = self._samples[first : first + len(samples)]
        room[:] = samples[: len(room)]

    def waveform(self) -> np.ndarray:
        """(samples,) float32 at 16 kHz from the clip's start to the end of its audio."""
        samples = self._samples[: max(0, self._next or 0)]
        return samples if self.rate_hz == SAMPLE_RATE_HZ else resampled(samples, self.rate_hz)

    def _match_rate(self, frame: av.AudioFrame) -> None:
        if not self.rate_hz:
            if not MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ:
                raise MediaError(ClipState.DECODE_ERROR, f"{frame.sample_rate} Hz is no sample rate of audio")
            self.rate_hz = frame.sample_rate
            self._samples = np.zeros(round(self.duration_s * self.rate_hz), np.float32)
        if frame.sample_rate != self.rate_hz:
            change = f"from {self.rate_hz} to {frame.sample_rate} Hz"
            raise MediaError(ClipState.DECODE_ERROR, f"the sample rate changes {change} inside the clip")

    def _position(self, frame: av.AudioFrame) -> int:
        """Position of the frame's first sample; may be negative, before the clip."""
        if frame.time is None:
            raise MediaError(ClipState.DECODE_ERROR, "an audio frame has no presentation time")
        position = round((frame.time - self.start_s) * self.rate_hz)
        if self._next is not None and abs(position - self._next) <= JITTER_S * self.rate_hz:
            return self._next
        return position


def one_channel(frame: av.AudioFrame, channel: AudioChannel) -> np.ndarray:
    """(samples,) float32 in [-1, 1]: the frame's first channel, or the mean of all."""
    if frame.format.name == "fltp" and channel == "first":  # the usual case, without a copy of the rest
        plane: Any = frame.planes[0]
        return np.frombuffer(plane, np.float32, frame.samples)
    data: np.ndarray = frame.to_ndarray()
    if not frame.format.is_planar:  # (1, samples * channels), interleaved
        data = data.reshape(-1, frame.layout.nb_channels).T
    samples: np.ndarray = (data[0] if channel == "first" else data.mean(axis=0)).astype(np.float32)
    if data.dtype.kind == "f":
        return samples
    samples -= np.float32(128.0 if data.dtype == np.uint8 else 0.0)
    samples /= np.float32(FULL_SCALE[str(data.dtype)])
    return samples


def resampled(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """(n,) float32 at `rate_hz` to 16 kHz by libswresample; sample 0 stays at time 0."""
    if len(samples) == 0:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    pieces = (samples[first : first + PIECE_SAMPLES] for first in range(0, len(samples), PIECE_SAMPLES))
    frames = [*(_mono_frame(piece, rate_hz) for piece in pieces), None]
    parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts)[: round(len(samples) * SAMPLE_RATE_HZ / rate_hz)]


def _mono_frame(samples: np.ndarray, rate_hz: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate_hz
    return frame
