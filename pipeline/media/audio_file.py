"""A sound file, or the sound of a video, as one waveform."""

from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.audio import SILENT_PEAK, AudioTrack


def read_recording(path: Path, max_duration_s: float) -> np.ndarray:
    """(samples,) float32 at 16 kHz: the first channel of the first `max_duration_s` seconds.

    Raises MediaError where there is no sound to be had: no file, no stream, nothing but silence, damage.
    """
    try:
        with av.open(str(path)) as container:
            waveform = _decode(container, max_duration_s)
    except FileNotFoundError as error:
        raise MediaError(ClipState.MISSING, f"{path} is not there") from error
    except av.error.FFmpegError as error:
        raise MediaError(ClipState.DECODE_ERROR, f"{path} cannot be decoded: {error.strerror}") from error
    if len(waveform) == 0 or np.abs(waveform).max() < SILENT_PEAK:
        raise MediaError(ClipState.NO_AUDIO, f"{path} is silent from beginning to end")
    return waveform


def _decode(container: Any, max_duration_s: float) -> np.ndarray:
    stream = container.streams.best("audio")
    if stream is None:
        raise MediaError(ClipState.NO_AUDIO, f"{container.name} has no stream of sound")
    stream.codec_context.thread_count = 1
    begin_s = (container.start_time or 0) / av.time_base
    track = AudioTrack(begin_s, max_duration_s, "first")
    for frame in container.decode(stream):
        track.add(frame)
        if track.end_s >= max_duration_s:
            break
    return track.waveform()
