"""Reads how long a media file lasts; decodes nothing."""

import av.error

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.media.container import Container
from cavsync.pipeline.media.deadline import Deadline
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import AnyPath, as_path


def duration_s(source: str | AnyPath, timeout_s: float) -> float | None:
    """As the file's header says, or its packets where it does not: then the whole file is read.

    None for a file that cannot be opened or has no packet. Raises StoreError where its store fails.
    """
    try:
        with Container(as_path(source), Deadline(timeout_s)) as container:
            return container.header_duration_s or container.read_duration_s()
    except StoreError:
        raise
    except (av.error.FFmpegError, MediaError, OSError):
        return None
