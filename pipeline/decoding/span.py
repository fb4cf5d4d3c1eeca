"""Reads one span of a media file: its audio, and the frames at requested instants. Either may be missing."""

from pathlib import Path

import numpy as np

from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.requests import EvenFrames, MediaSegment, SegmentRequest
from cavsync.pipeline.media.backends.pyav import PyAvDecoder
from cavsync.pipeline.media.container import Container, Span, open_container
from cavsync.pipeline.media.deadline import Deadline
from cavsync.pipeline.media.decode import frames_at
from cavsync.pipeline.media.frame_images import FrameScaler, jpeg
from cavsync.pipeline.storage.path import AnyPath, as_path


def read_segment(request: SegmentRequest) -> MediaSegment:
    """Raises MediaError for a file that cannot be read there, StoreError where its store fails."""
    source = as_path(request.source)
    _require_content(source)
    audio_only = request.frames is None
    with open_container(source, Deadline(request.timeout_s), audio_only=audio_only) as container:
        if audio_only:
            container.require_audio()
        else:
            container.require_a_stream()
        return _read(container, request)


def _require_content(source: AnyPath) -> None:
    if not source.is_file():
        raise MediaError(ClipState.MISSING, "it is not there")
    if isinstance(source, Path) and source.stat().st_size == 0:
        raise MediaError(ClipState.DECODE_ERROR, "the file is empty")


def _read(container: Container, request: SegmentRequest) -> MediaSegment:
    decoder = PyAvDecoder(container)
    span = Span(container.origin_s + request.start_s, request.duration_s)
    audio, video_end_s = decoder.read(span, request.channel)
    audio_s = min(audio.end_s, request.duration_s)
    frames_end_s = _inside(video_end_s - container.origin_s, request) if container.video else None
    shared_s = min(audio_s, video_end_s - span.begin_s)
    instants_s = [one for one in _instants_s(request, shared_s) if one < (frames_end_s or 0.0)]
    times_s, frames = _frames(container, decoder, request, instants_s)
    return MediaSegment(
        start_s=request.start_s,
        frame_times_s=times_s,
        frames=frames,
        frames_end_s=frames_end_s,
        waveform=audio.waveform() if container.audio else np.zeros(0, np.float32),
        audio_end_s=request.start_s + audio_s if container.audio else None,
    )


def _inside(end_s: float, request: SegmentRequest) -> float:
    return min(max(end_s, request.start_s), request.start_s + request.duration_s)


def _instants_s(request: SegmentRequest, shared_s: float) -> tuple[float, ...]:
    """Seconds from the file's start; `shared_s` is how long there are both audio and frames."""
    if not isinstance(request.frames, EvenFrames):
        return request.frames or ()
    if shared_s <= 0:
        return ()
    spread_s = frame_times_s(shared_s, request.frames.num_frames)
    return tuple((request.start_s + spread_s).tolist())


def _frames(
    container: Container, decoder: PyAvDecoder, request: SegmentRequest, instants_s: list[float]
) -> tuple[tuple[float, ...], tuple[bytes, ...]]:
    """When each frame came on screen, and the frames as JPEG, as far as there are any."""
    if not instants_s:
        return (), ()
    scaler = FrameScaler(request.frame_size, request.crop)
    times_s: list[float] = []
    frames: list[bytes] = []
    last: np.ndarray | None = None
    for begins_s, rgb in frames_at(
        [container.origin_s + one for one in instants_s], decoder, container, scaler
    ):
        frames.append(frames[-1] if rgb is last else jpeg(rgb, request.jpeg_quality))
        times_s.append(begins_s - container.origin_s)
        last = rgb
    if not frames:
        raise MediaError(ClipState.DECODE_ERROR, "none of its frames could be decoded")
    return tuple(times_s), tuple(frames)
