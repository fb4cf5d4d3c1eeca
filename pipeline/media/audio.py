"""Turns decoded audio frames into samples of one channel or of stereo, and resamples them."""

from functools import cache
from typing import Any

import av
import numpy as np

from cavsync.pipeline.dataset.choices import AudioChannel
from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ

# The types of samples by FFmpeg's name; decoders that keep channels apart add a "p".
SAMPLE_TYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
# Full scale of each sample type that decoders produce; floats are in [-1, 1] already.
FULL_SCALE = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**63}
# What is resampled at a time: buffers of this size stay in the cache, and the allocator has them at hand.
PIECE_SAMPLES = 16_384
# What a player takes as many channels for whose file does not name them, by FFmpeg's names of layouts.
USUAL_LAYOUTS = {3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# How much quieter than the front left and right all other channels are in a stereo mix (ITU-R BS.775).
OTHERS_GAIN = 0.5**0.5


def one_channel(frame: av.AudioFrame, channel: AudioChannel) -> np.ndarray:
    """(samples,) float32 in [-1, 1]: the frame's first channel, or the mean of all."""
    if frame.format.name == "fltp" and channel == "first":  # the usual case, without a copy of the rest
        plane: Any = frame.planes[0]
        return np.frombuffer(plane, np.float32, frame.samples)
    data = _planes(frame)
    return _scaled(data[0] if channel == "first" else data.mean(axis=0), data.dtype)


def all_channels(frame: av.AudioFrame) -> np.ndarray:
    """(channels, samples) float32 in [-1, 1]."""
    data = _planes(frame)
    return _scaled(data, data.dtype)


def stereo(frame: av.AudioFrame) -> np.ndarray:
    """(1 or 2, samples) float32 in [-1, 1]: the channels as they are, more than two mixed as players mix them."""
    channels = all_channels(frame)
    if len(channels) <= 2:
        return channels
    names = tuple(one.name for one in frame.layout.channels)
    if not any(name in ("FL", "FR", "FC") for name in names) and len(channels) in USUAL_LAYOUTS:
        names = tuple(one.name for one in av.AudioLayout(USUAL_LAYOUTS[len(channels)]).channels)
    mixed: np.ndarray = _stereo_weights(names) @ channels
    return mixed


@cache
def _stereo_weights(names: tuple[str, ...]) -> np.ndarray:
    """float32 (2, channels) by FFmpeg's names of the channels; no sum of samples in [-1, 1] leaves that.

    Names end with L or R, or with LC and RC; others, such as FC and those of unknown channels, go to both sides.
    """
    sides = [name.removesuffix("C")[-1:] for name in names]
    gains = [
        0.0 if name.startswith("LFE") else 1.0 if name in ("FL", "FR") else OTHERS_GAIN for name in names
    ]
    rows = [[gain * (side != other) for side, gain in zip(sides, gains, strict=True)] for other in "RL"]
    weights = np.array(rows, np.float32)
    scaled: np.ndarray = weights / weights.sum(axis=1).max()
    return scaled


def _planes(frame: av.AudioFrame) -> np.ndarray:
    """(channels, samples) as the decoder made them."""
    # PyAV's own conversion reads beyond the last of 8 channels, and does not know all types.
    num_channels, kind = frame.layout.nb_channels, SAMPLE_TYPES[frame.format.name.removesuffix("p")]
    planes: list[Any] = list(frame.planes)
    if frame.format.is_planar:
        return np.stack([np.frombuffer(one, kind, frame.samples) for one in planes[:num_channels]])
    interleaved = np.frombuffer(planes[0], kind, frame.samples * num_channels)
    return interleaved.reshape(-1, num_channels).T


def _scaled(values: np.ndarray, decoded: np.dtype) -> np.ndarray:
    """float32 in [-1, 1] of values that the decoder made in another type."""
    samples: np.ndarray = values.astype(np.float32)
    if decoded.kind == "f":
        return samples
    samples -= np.float32(128.0 if decoded == np.uint8 else 0.0)
    samples /= np.float32(FULL_SCALE[str(decoded)])
    return samples


def resampled(samples: np.ndarray, rate_hz: int, to_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """(n,) float32 at `rate_hz` to one at `to_hz` by libswresample; sample 0 stays at time 0."""
    if len(samples) == 0:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    pieces = (samples[first : first + PIECE_SAMPLES] for first in range(0, len(samples), PIECE_SAMPLES))
    frames = [*(_mono_frame(piece, rate_hz) for piece in pieces), None]
    parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    if not parts:  # less than the filter's length
        return np.zeros(0, np.float32)
    return np.concatenate(parts)[: round(len(samples) * to_hz / rate_hz)]


def _mono_frame(samples: np.ndarray, rate_hz: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate_hz
    return frame
