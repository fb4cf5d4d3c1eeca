"""What a backend says of a file that it would show at wrong times."""

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.container import Container


def refusal(backend: str, why: str) -> MediaError:
    return MediaError(ClipState.DECODE_ERROR, f"{backend} cannot time this file: {why}; use --decoder pyav")


def require_picture_times(backend: str, container: Container) -> None:
    """Raises MediaError for a file that does not say when its pictures are shown."""
    if not container.has_picture_times:
        raise refusal(
            backend, "an AVI with a codec that stores pictures out of order does not say when they are shown"
        )
