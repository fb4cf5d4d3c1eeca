"""The error of a backend that would show the frames of a file at wrong times."""

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.container import Container


def timing_error(backend: str, why: str) -> MediaError:
    return MediaError(ClipState.DECODE_ERROR, f"{backend} cannot time this file: {why}; use --decoder pyav")


def require_frame_times(backend: str, container: Container) -> None:
    """Raises MediaError for a file that does not say when its frames are shown."""
    if not container.has_frame_times:
        raise timing_error(
            backend, "an AVI with a codec that stores frames out of order does not say when they are shown"
        )
