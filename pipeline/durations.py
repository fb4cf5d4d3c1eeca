"""How long a video lasts, from its header; nothing is decoded."""

import av
import av.error

from cavsync.pipeline.container import OPEN_OPTIONS, url

# A header is read in milliseconds; a file that takes longer does not tell its length.
TIMEOUT_S = 10.0


def duration_s(path: str) -> float | None:
    """None for a file that cannot be opened or does not say."""
    try:
        with av.open(url(path), timeout=TIMEOUT_S, options=OPEN_OPTIONS, metadata_errors="replace") as opened:
            return None if opened.duration is None else opened.duration / av.time_base
    except (av.error.FFmpegError, OSError):
        return None
