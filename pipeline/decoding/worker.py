"""The decoder process: it answers requests until its parent is gone."""

import gc
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.requests import ClipRequest, DurationRequest, Request, SegmentRequest
from cavsync.pipeline.storage.filesystem import StoreError, retry_timeout

# Decoders check the clock between frames; only a native call that hangs outlives the limit by this much.
HANG_FACTOR = 1.5
# Far above what 8K frames take, far below what a broken header may ask for.
MAX_MEMORY_BYTES = 4 * 2**30
# The process that asks waits for a store that does not answer; its clock is not the request's.
RETRY_TIMEOUT_S = 2.0


def answers() -> dict[type, Callable[[Any], Any]]:
    """For each type of request the function that answers it; loads the libraries that only this process needs."""
    from cavsync.pipeline.decoding.clip import prepare_clip
    from cavsync.pipeline.decoding.span import read_segment
    from cavsync.pipeline.media.demuxing.duration import duration_s

    return {
        ClipRequest: lambda request: prepare_clip(request.row, request.config, request.source),
        SegmentRequest: read_segment,
        DurationRequest: lambda request: duration_s(request.source, request.timeout_s),
    }


def serve(connection: Connection) -> None:
    """Answer requests until the other end is closed."""
    answer_to = answers()
    gc.freeze()  # what is loaded stays, so that a collection takes less than a millisecond
    connection.send(True)
    while True:
        try:
            request: Request = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, request.timeout_s * HANG_FACTOR)
        try:
            with retry_timeout(RETRY_TIMEOUT_S):
                answer = answer_to[type(request)](request)
        except (MediaError, StoreError) as error:
            answer = error
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
        gc.collect()  # PyAV's frames whose side data was read are in cycles, and hold much memory in few objects


def _limit() -> None:
    """Ctrl-C is the owner's matter; the alarm kills; memory has an end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = MAX_MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, most))


if __name__ == "__main__":
    _limit()
    serve(Connection(int(sys.argv[1])))
