"""Reads how long a media file lasts from its header; decodes nothing."""

import av
import av.error

from cavsync.pipeline.media.container import opened
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath


def duration_s(source: str | AnyPath, timeout_s: float) -> float | None:
    """None for a file that cannot be opened or does not say. Raises StoreError where its store fails."""
    try:
        with opened(source, timeout_s) as media:
            return None if media.duration is None else media.duration / av.time_base
    except StoreError:
        raise
    except (av.error.FFmpegError, OSError):
        return None
