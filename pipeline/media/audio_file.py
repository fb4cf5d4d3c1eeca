"""The audio file that a shard keeps of a clip: FLAC or Opus, whose first sample is at the clip's start.

FLAC holds 16 bits a sample, so it is exact for what was recorded with as many. Opus has a few sample rates of its own;
its encoder adds samples before the first one, and the file says how many, so that decoders leave them out.
"""

import io
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from cavsync.pipeline.dataset.choices import AudioCodec, AudioRate
from cavsync.pipeline.media.audio import all_channels, resampled

# Rates that Opus can be encoded at; it is always decoded at the last one, from which those below follow.
OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
# Headers of FLAC hold any rate up to the first, and these above it; others become OTHER_HZ.
MAX_PLAIN_FLAC_HZ, HIGH_FLAC_HZ = 65_535, (88_200, 96_000, 176_400, 192_000)
OTHER_HZ = 48_000
# For each channel; RFC 6716, section 2.1.1, names 48 to 64 kbit/s for music of one, 64 to 128 for music of two.
OPUS_BITS_PER_S = 48_000
# Below that rate a file holds at most half of the band, in which most of the sound is.
NARROW_HZ, NARROW_BITS_PER_S = 24_000, 32_000
# 0 to 10; at 10, the encoder's own choice, encoding takes 1.6 times as long.
OPUS_COMPLEXITY = 5
FULL_SCALE = 2**15
# Codec -> name of the container and of the encoder in FFmpeg.
FORMATS: dict[str, tuple[str, str]] = {"flac": ("flac", "flac"), "opus": ("ogg", "libopus")}


def kept_rate_hz(codec: AudioCodec, rate: AudioRate, source_hz: int) -> int:
    """The sample rate of the file for audio of `source_hz`.

    "source" is that rate, or the next higher one that the codec has, or its highest.
    """
    wanted_hz = source_hz if rate == "source" else int(rate)
    if codec == "opus":
        return next((one for one in OPUS_RATES_HZ if one >= wanted_hz), OPUS_RATES_HZ[-1])
    return wanted_hz if wanted_hz <= MAX_PLAIN_FLAC_HZ or wanted_hz in HIGH_FLAC_HZ else OTHER_HZ


def encoded_audio(samples: np.ndarray, rate_hz: int, codec: AudioCodec) -> bytes:
    """The file of (channels, samples) float32 in [-1, 1], one or two channels; the same bytes for the same samples."""
    container, encoder = FORMATS[codec]
    layout = "mono" if len(samples) == 1 else "stereo"
    buffer = io.BytesIO()
    # Without this flag the numbers of Ogg streams are random.
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as file:
        stream: Any = file.add_stream(encoder, rate=rate_hz, layout=layout)
        if codec == "opus":
            stream.bit_rate = len(samples) * (NARROW_BITS_PER_S if rate_hz < NARROW_HZ else OPUS_BITS_PER_S)
            stream.options = {"compression_level": str(OPUS_COMPLEXITY)}
        file.mux(stream.encode(_frame(samples, rate_hz, layout)))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def decoded_audio(content: bytes, codec: str, rate_hz: int) -> np.ndarray:
    """(channels, samples) float32 in [-1, 1] of a file that was encoded at `rate_hz`.

    Raises ValueError for content that is no such file.
    """
    if codec not in FORMATS:
        raise ValueError(f"{codec!r} is no codec of kept audio; those are {' and '.join(FORMATS)}")
    try:
        with av.open(io.BytesIO(content), "r", format=FORMATS[codec][0]) as file:
            frames = list(file.decode(audio=0))
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"it cannot be decoded ({error})") from error
    if not frames:
        raise ValueError("it holds no audio")
    samples = np.concatenate([all_channels(frame) for frame in frames], axis=1)
    decoded_hz = frames[0].sample_rate
    if decoded_hz == rate_hz:
        return samples
    return np.stack([resampled(channel, decoded_hz, rate_hz) for channel in samples])


def _frame(samples: np.ndarray, rate_hz: int, layout: str) -> av.AudioFrame:
    """16 bits a sample, in order of time."""
    whole = np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    interleaved = np.ascontiguousarray(whole.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    return frame
