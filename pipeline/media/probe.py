"""How long a video lasts, from its header; nothing is decoded."""

import av
import av.error

from cavsync.pipeline.media.container import opened
from cavsync.pipeline.storage.filesystem import StoreError

# A header is read in milliseconds; a file that takes longer does not tell its length.
TIMEOUT_S = 10.0


def duration_s(path: str) -> float | None:
    """None for a file that cannot be opened or does not say. Raises StoreError where its store fails."""
    try:
        with opened(path, TIMEOUT_S) as media:
            return None if media.duration is None else media.duration / av.time_base
    except StoreError:
        raise
    except (av.error.FFmpegError, OSError):
        return None
