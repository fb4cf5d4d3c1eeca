"""A rendered clip as an mp4 file.

FFmpeg's AAC encoder puts 1024 samples of priming before the sound and stamps them with negative times; the
mp4 muxer turns those into an edit list, so that the sound begins with the first picture again.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from cavsync.pipeline.world.config import WorldConfig

# One thread: with more, x264's bytes depend on how many there are.
H264_OPTIONS = {"preset": "veryfast", "crf": "20", "threads": "1"}
KEYFRAME_INTERVAL = 30  # pictures: 4.8 s, about what video sites use
AAC_BITS_PER_S = 64_000


def write_mp4(path: Path, config: WorldConfig, pictures: np.ndarray, waveform: np.ndarray) -> None:
    """Pictures (n, h, w, 3) as h264 and a waveform (samples,) as mono AAC; same input, same bytes."""
    with av.open(str(path), "w", format="mp4") as container:
        # Both streams must be known before the first packet is written.
        video, audio = _add_video(container, config), _add_audio(container, config)
        picture_s = 1 / Fraction(config.fps).limit_denominator(1001)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, picture_s
            container.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        sound.pts, sound.sample_rate = 0, config.sample_rate_hz
        sound.time_base = Fraction(1, config.sample_rate_hz)
        container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode())


def _add_video(container: Any, config: WorldConfig) -> Any:
    stream = container.add_stream(
        "libx264", rate=Fraction(config.fps).limit_denominator(1001), options=H264_OPTIONS
    )
    stream.width = stream.height = config.side_px
    stream.pix_fmt = "yuv420p"
    stream.gop_size = KEYFRAME_INTERVAL
    return stream


def _add_audio(container: Any, config: WorldConfig) -> Any:
    stream = container.add_stream("aac", rate=config.sample_rate_hz, layout="mono")
    stream.bit_rate = AAC_BITS_PER_S
    return stream
