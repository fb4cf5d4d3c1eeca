"""Which codecs a decoder can really decode on this machine: a clip of one second is written in each, and tried."""

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
from cavsync.pipeline.media.decode import open_media

# Codec -> the encoder that writes its trial clip. The other stream of the clip is one that everything decodes.
PICTURES = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
SOUNDS = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame", "vorbis": "vorbis"}
EASY_PICTURES, EASY_SOUND = "mjpeg", "pcm_s16le"
ENCODER_OPTIONS = {
    "libx265": {"x265-params": "log-level=none:pools=1"},
    "libsvtav1": {"preset": "10", "svtav1-params": "lp=1"},
    "vorbis": {"strict": "experimental"},
}
SIDE_PX, RATE_HZ, PICTURES_PER_S, NUM_PICTURES = 64, 48_000, 10, 12


def tried(decoder: DecoderName, codec: str, folder: Path) -> str | None:
    """Why `decoder` cannot decode `codec` here; None when it can. Raises ImportError without its library.

    A build of FFmpeg that lacks the encoder is asked for its decoder by name.
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
            pictures = _stream(container, PICTURES.get(codec, EASY_PICTURES), PICTURES_PER_S)
            sound = _stream(container, SOUNDS.get(codec, EASY_SOUND), RATE_HZ)
            _encode_pictures(container, pictures)
            _encode_sound(container, sound)
    except (av.codec.codec.UnknownCodecError, av.error.FFmpegError):
        path.unlink(missing_ok=True)
        return False
    return True


def _stream(container: Any, encoder: str, rate: int) -> Any:
    stream = container.add_stream(encoder, rate=rate, options=ENCODER_OPTIONS.get(encoder, {}))
    if stream.type == "video":
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuvj420p" if encoder == EASY_PICTURES else "yuv420p"
    else:
        stream.layout = "stereo"
    return stream


def _encode_pictures(container: Any, stream: Any) -> None:
    for number in range(NUM_PICTURES):
        grey = np.full((SIDE_PX, SIDE_PX, 3), 20 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, PICTURES_PER_S)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _encode_sound(container: Any, stream: Any) -> None:
    samples = RATE_HZ * NUM_PICTURES // PICTURES_PER_S
    tone = (8000 * np.sin(np.arange(samples) * (2 * np.pi * 440 / RATE_HZ))).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
    container.mux(stream.encode(frame))
    container.mux(stream.encode())
