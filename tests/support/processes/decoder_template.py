"""A process that has imported what decoders need; each connection gets a copy of it that decodes.

A copy is a grandchild: the process between them waits for it and sends its exit code, so that the one that connected may
die or be copied at any time. It ends when its stdin does.
"""

import faulthandler
import os
import pickle
import select
import signal
import socket
import sys
import traceback
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection

from cavsync.pipeline.decoding import worker


def main(listener: socket.socket) -> None:
    worker.answers()  # imports what decodes
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while listener in select.select([listener, 0], [], [])[0]:
        channel, _ = listener.accept()
        if not os.fork():
            _keep(channel)
        channel.close()
        with suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _keep(channel: socket.socket) -> None:
    """Starts a decoder, says its process id, and its exit code when it has ended."""
    begun, (connection, log), *_ = socket.recv_fds(channel, 2**20, 2)
    if not (pid := os.fork()):
        _decode(connection, log, *pickle.loads(begun))
    os.close(connection)
    channel.send(pickle.dumps(pid))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(ConnectionError):  # the one that asked is gone
        channel.send(pickle.dumps(code))
    os._exit(0)


def _decode(connection: int, log: int, environment: dict[str, str], folder: str) -> None:
    """What `python -m cavsync.pipeline.decoding.worker` does."""
    code = 1
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, connection}:
            with suppress(OSError):  # that of the listing itself
                os.close(descriptor)
        sys.stderr = sys.stdout = os.fdopen(2, "w")
        faulthandler.enable()
        warnings.simplefilter("error")  # as in the tests
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        worker._limit()
        worker.serve(Connection(connection))
        code = 0
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
