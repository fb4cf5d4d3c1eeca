"""A stretch of a file decoded, whichever of pictures and sound it has."""

import numpy as np

from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.requests import MediaSegment, SegmentRequest
from cavsync.pipeline.media.backends.pyav import Decoder
from cavsync.pipeline.media.container import Container, Span, open_container
from cavsync.pipeline.media.deadline import Deadline
from cavsync.pipeline.media.frame_times import time_s
from cavsync.pipeline.media.frames import Shrinker, jpeg


def read_segment(request: SegmentRequest) -> MediaSegment:
    """Raises MediaError for a file that cannot be read there."""
    if not request.path.is_file():
        raise MediaError(ClipState.MISSING, "it is not there")
    if request.path.stat().st_size == 0:
        raise MediaError(ClipState.DECODE_ERROR, "the file is empty")
    with open_container(request.path, Deadline(request.timeout_s)) as container:
        container.require_a_stream()
        decoder = Decoder(container)
        span = Span(container.origin_s + request.start_s, request.duration_s)
        sound, video_end_s = decoder.read(span, "first")
        pictures_end_s = _inside(video_end_s - container.origin_s, request) if container.video else None
        times_s, pictures = _pictures(container, decoder, request, pictures_end_s)
        heard_s = min(sound.end_s, request.duration_s)
        return MediaSegment(
            start_s=request.start_s,
            times_s=times_s,
            pictures=pictures,
            pictures_end_s=pictures_end_s,
            waveform=sound.waveform() if container.audio else np.zeros(0, np.float32),
            sound_end_s=request.start_s + heard_s if container.audio else None,
        )


def _inside(end_s: float, request: SegmentRequest) -> float:
    return min(max(end_s, request.start_s), request.start_s + request.duration_s)


def _pictures(
    container: Container, decoder: Decoder, request: SegmentRequest, end_s: float | None
) -> tuple[tuple[float, ...], tuple[bytes, ...]]:
    """When each picture came on screen, and the pictures, as far as there are any."""
    instants_s = [container.origin_s + one for one in request.instants_s if end_s is not None and one < end_s]
    if not instants_s:
        return (), ()
    shrinker, quality = Shrinker(request.side, "centre"), PrepareConfig().jpeg_quality
    times_s: list[float] = []
    pictures: list[bytes] = []
    for frame in decoder.pictures(instants_s):
        container.deadline.check()
        begins_s = time_s(frame)
        if begins_s is None:
            raise MediaError(ClipState.DECODE_ERROR, "a picture has no presentation time")
        shown_again = bool(times_s) and times_s[-1] == begins_s - container.origin_s
        pictures.append(pictures[-1] if shown_again else jpeg(shrinker.rgb(frame), quality))
        times_s.append(begins_s - container.origin_s)
    if not pictures:
        raise MediaError(ClipState.DECODE_ERROR, "none of its pictures could be decoded")
    return tuple(times_s), tuple(pictures)
