"""What a backend that opens a file itself must know of it, and the error of one that would show frames at wrong times."""

import av.error

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.timeline import open_container
from cavsync.pipeline.media.frame_images import orientation


def timing_error(backend: str, why: str) -> MediaError:
    return MediaError(ClipState.DECODE_ERROR, f"{backend} cannot time this file: {why}; use --decoder pyav")


def require_frame_times(backend: str, container: Container) -> None:
    """Raises MediaError for a file that does not say when its frames are shown."""
    if not container.has_frame_times:
        raise timing_error(
            backend, "an AVI with a codec that stores frames out of order does not say when they are shown"
        )


def first_orientation(container: Container) -> int:
    """How the file's first frame is to be turned, as in EXIF; 1 where none can be decoded."""
    with open_container(container.path, container.deadline) as again:
        codec = again.video.codec_context
        for packet in again.packets():
            if packet.stream_index != again.video.index:
                continue
            try:
                for frame in codec.decode(packet):
                    return orientation(frame)
            except av.error.FFmpegError:
                continue
    return 1
