"""Reads one span of a media file: its audio, and the frames at requested instants. Either may be missing."""

import math
from pathlib import Path

import numpy as np

from cavsync.pipeline.dataset.sampling import frame_times_s
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.requests import EvenFrames, MediaSegment, SegmentRequest
from cavsync.pipeline.media.backends.choice import backend_of
from cavsync.pipeline.media.decode import Backend, frames_at, merged_gaps_s
from cavsync.pipeline.media.demuxing.clock import Span
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.deadline import Deadline
from cavsync.pipeline.media.demuxing.timeline import open_container
from cavsync.pipeline.media.frame_images import FrameScaler, jpeg
from cavsync.pipeline.storage.path import MediaPath, as_path


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


def _require_content(source: MediaPath) -> None:
    if not source.is_file():
        raise MediaError(ClipState.MISSING, "it is not there")
    if isinstance(source, Path) and source.stat().st_size == 0:
        raise MediaError(ClipState.DECODE_ERROR, "the file is empty")


def _read(container: Container, request: SegmentRequest) -> MediaSegment:
    decoder = backend_of(container, "pyav")
    span = Span(container.origin_s + request.start_s, request.duration_s)
    audio, stop_s = decoder.read(span, request.channel), request.start_s + request.duration_s
    audio_end_s = min(request.start_s + audio.end_s, stop_s)
    frames_end_s = min(max(decoder.frames_end_s - container.origin_s, request.start_s), stop_s)
    both = max(request.start_s, decoder.frames_begin_s - container.origin_s), min(audio_end_s, frames_end_s)
    instants_s = [one for one in _instants_s(request, *both) if one < frames_end_s] if container.video else []
    times_s, frames = _frames(container, decoder, request, instants_s)
    return MediaSegment(
        start_s=request.start_s,
        frame_times_s=times_s,
        frames=frames,
        frames_end_s=frames_end_s if container.video else None,
        waveform=audio.waveform() if container.audio else np.zeros(0, np.float32),
        audio_end_s=audio_end_s if container.audio else None,
        audio_gaps_s=_in_file(audio.gaps_s, request.start_s),
        frame_gaps_s=_in_file(decoder.frame_gaps_s, -container.origin_s),
        failure=decoder.failure,
    )


def _in_file(gaps_s: list[tuple[float, float]], offset_s: float) -> list[tuple[float, float]]:
    """The gaps in seconds from the file's start."""
    return merged_gaps_s([(start_s + offset_s, stop_s + offset_s) for start_s, stop_s in gaps_s], math.inf)


def _instants_s(request: SegmentRequest, begin_s: float, end_s: float) -> tuple[float, ...]:
    """Seconds from the file's start; [begin_s, end_s) has both audio and frames."""
    if not isinstance(request.frames, EvenFrames):
        return request.frames or ()
    if end_s <= begin_s:
        return ()
    num_frames = request.frames.count(end_s - begin_s)
    return tuple((begin_s + frame_times_s(end_s - begin_s, num_frames)).tolist())


def _frames(
    container: Container, decoder: Backend, request: SegmentRequest, instants_s: list[float]
) -> tuple[tuple[float | None, ...], tuple[bytes | None, ...]]:
    """When each frame came on screen, and the frames as JPEG; None where no frame is on screen, or it cannot be decoded."""
    if not instants_s:
        return (), ()
    scaler = FrameScaler(container.sample_aspect_ratio, request.frame_size, request.crop)
    at_s = [container.origin_s + one for one in instants_s]
    shown = list(frames_at(at_s, decoder, container, scaler))
    begins_s = [None if one is None else one[0] for one in shown]
    if isinstance(request.frames, EvenFrames):
        begins_s = [one for one in begins_s if one is not None]
        if not begins_s:
            reason = decoder.failure or "none of its frames could be decoded"
            raise MediaError(ClipState.DECODE_ERROR, reason)
    else:
        begins_s = [
            None if any(start_s <= at < stop_s for start_s, stop_s in decoder.frame_gaps_s) else one
            for one, at in zip(begins_s, at_s, strict=True)
        ]
    images = dict(one for one in shown if one is not None)
    jpegs = {
        begin_s: jpeg(rgb, request.jpeg_quality) for begin_s, rgb in images.items() if begin_s in begins_s
    }
    times_s = tuple(None if one is None else one - container.origin_s for one in begins_s)
    return times_s, tuple(None if one is None else jpegs[one] for one in begins_s)
