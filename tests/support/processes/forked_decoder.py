"""Decoder processes as copies of the test's own process, for tests of what decoding is used for.

Another Python takes 0.4 s of CPU for its imports, a copy has them. The tests of pipeline/decoding start the real process,
and so does any run that is sabotaged or that begins in a process of its own.
"""

import faulthandler
import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import IO, Any

import pytest

from cavsync.pipeline.decoding import process, worker


class ForkedDecoder:
    """As much of a `subprocess.Popen` as decoding/process.py needs."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int],
        stdout: IO[bytes],
        env: Mapping[str, str],
        **_: Any,
    ) -> None:
        (connection,) = pass_fds
        self._code: int | None = None
        self._pid = os.fork()
        if not self._pid:
            _serve(connection, stdout.fileno(), env)

    def kill(self) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code


def start(command: Sequence[str], **options: Any) -> "ForkedDecoder | subprocess.Popen[bytes]":
    if "SABOTAGE" in os.environ:
        return subprocess.Popen(command, **options)
    return ForkedDecoder(command, **options)


def fork_decoders(patch: pytest.MonkeyPatch) -> None:
    """From now on, decoder processes are copies of this process."""
    patch.setattr(process, "subprocess", SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL))


def _serve(connection: int, log: int, env: Mapping[str, str]) -> None:
    """What `python -m cavsync.pipeline.decoding.worker` does, without its limit of memory, which this process may exceed."""
    code = 1
    try:
        gc.freeze()
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, connection}:
            with suppress(OSError):  # that of the listing itself
                os.close(descriptor)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        sys.stderr = sys.stdout = os.fdopen(2, "w")
        faulthandler.enable()
        os.environ.clear()
        os.environ.update(env)
        worker.serve(Connection(connection))
        code = 0
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
