"""A waveform as a small file that every browser plays."""

import io
from typing import Any

import av
import numpy as np

from cavsync.pipeline.dataset.schema import SAMPLE_RATE_HZ

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
