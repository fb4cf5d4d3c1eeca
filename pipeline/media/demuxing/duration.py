"""Reads how long a media file lasts; decodes nothing."""

import av.error

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.media.demuxing.clock import time_s
from cavsync.pipeline.media.demuxing.container import Container
from cavsync.pipeline.media.demuxing.deadline import Deadline
from cavsync.pipeline.media.demuxing.timeline import open_container
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import MediaPath


def duration_s(source: str | MediaPath, timeout_s: float) -> float | None:
    """As the file's header says, or its packets where it does not: then the whole file is read.

    None for a file that cannot be opened or has no packet. Raises StoreError where its store fails.
    """
    try:
        with open_container(source, Deadline(timeout_s)) as container:
            return container.header_duration_s or _packets_duration_s(container)
    except StoreError:
        raise
    except (av.error.FFmpegError, MediaError, OSError):
        return None


def _packets_duration_s(container: Container) -> float | None:
    ends_s = [
        begins_s + float((packet.duration or 0) * packet.time_base)
        for packet in container.packets()
        if (begins_s := time_s(packet)) is not None
    ]
    return max(ends_s) - container.origin_s if ends_s else None
