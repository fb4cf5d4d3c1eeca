"""Checks which codecs a decoder can decode on this machine: writes a clip of one second in each, and decodes it."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec
import av.error
import numpy as np

from cavsync.pipeline.dataset.choices import DecoderName
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.media.backends.choice import open_media

# Codec -> the encoder that writes its clip. The other stream of the clip is one that every decoder decodes.
VIDEO_ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
AUDIO_ENCODERS = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame", "vorbis": "vorbis"}
PLAIN_VIDEO, PLAIN_AUDIO = "mjpeg", "pcm_s16le"
ENCODER_OPTIONS = {
    "libx265": {"x265-params": "log-level=none:pools=1"},
    "libsvtav1": {"preset": "10", "svtav1-params": "lp=1"},
    "vorbis": {"strict": "experimental"},
}
SIDE_PX, RATE_HZ, FRAMES_PER_S, NUM_FRAMES = 64, 48_000, 10, 12


def unsupported_reason(decoder: DecoderName, codec: str, folder: Path) -> str | None:
    """Why `decoder` cannot decode `codec` here; None when it can. Raises ImportError without its library.

    The clip is written to `folder`. A build of FFmpeg that lacks the encoder is asked for its decoder by name.
    """
    path = folder / f"{codec}.mkv"
    if not path.exists() and not _written(path, codec):
        return None if codec in av.codec.codecs_available else "FFmpeg has no decoder of that name"
    try:
        with open_media(path, 30.0, decoder) as media:
            media.decode(0.0, 1.0, PrepareConfig(num_frames=2, min_duration_s=0.5))
    except MediaError as error:
        return error.reason
    return None


def _written(path: Path, codec: str) -> bool:
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    try:
        with av.open(str(path), "w") as container:
            video = _stream(container, VIDEO_ENCODERS.get(codec, PLAIN_VIDEO), FRAMES_PER_S)
            audio = _stream(container, AUDIO_ENCODERS.get(codec, PLAIN_AUDIO), RATE_HZ)
            _encode_video(container, video)
            _encode_audio(container, audio)
    except (av.codec.codec.UnknownCodecError, av.error.FFmpegError):
        path.unlink(missing_ok=True)
        return False
    return True


def _stream(container: Any, encoder: str, rate: int) -> Any:
    stream = container.add_stream(encoder, rate=rate, options=ENCODER_OPTIONS.get(encoder, {}))
    if stream.type == "video":
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuvj420p" if encoder == PLAIN_VIDEO else "yuv420p"
    else:
        stream.layout = "stereo"
    return stream


def _encode_video(container: Any, stream: Any) -> None:
    for number in range(NUM_FRAMES):
        grey = np.full((SIDE_PX, SIDE_PX, 3), 20 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FRAMES_PER_S)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _encode_audio(container: Any, stream: Any) -> None:
    samples = RATE_HZ * NUM_FRAMES // FRAMES_PER_S
    tone = (8000 * np.sin(np.arange(samples) * (2 * np.pi * 440 / RATE_HZ))).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
    container.mux(stream.encode(frame))
    container.mux(stream.encode())
