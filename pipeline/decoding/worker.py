"""The decoder process's own side: it answers requests until its parent is gone."""

import pickle
import resource
import signal
import sys
from multiprocessing.connection import Connection

from cavsync.pipeline.dataset.schema import MediaError
from cavsync.pipeline.decoding.requests import Request
from cavsync.pipeline.storage.filesystem import StoreError, retry_timeout

# Decoders look at the clock between pictures; only a native call that hangs outlives the limit by this much.
HANG_FACTOR = 1.5
# Far above what 8K pictures take, far below what a broken header may ask for.
MAX_MEMORY_BYTES = 4 * 2**30
# A store that does not answer is waited for by whoever asks, whose clock is not the request's.
PATIENCE_S = 2.0


def serve(connection: Connection) -> None:
    """Answer requests until nobody asks any more. This is what the decoder's process does."""
    import cavsync.pipeline.decoding.clip  # noqa: F401 (loads the libraries that only this process needs)

    connection.send(True)
    while True:
        try:
            request: Request = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, request.timeout_s * HANG_FACTOR)
        try:
            with retry_timeout(PATIENCE_S):
                answer = request.answer()
        except (MediaError, StoreError) as error:
            answer = error
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))


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
