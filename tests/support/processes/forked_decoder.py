"""Decoder processes that begin at once, for tests of what decoding is used for.

Another Python takes 0.4 s of CPU for its imports. `decoder_template.py` is one that has them; decoders are its copies. To
copy the tests' own process, whose libraries take half a gigabyte, takes a tenth of a second. The tests of
pipeline/decoding start the real process, and so does any run that is sabotaged or that begins in a process of its own.
"""

import atexit
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from cavsync.pipeline.decoding import process

TEMPLATE = Path(__file__).with_name("decoder_template.py")


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
        self._code: int | None = None
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.connect(template_address())
        begun = pickle.dumps((dict(env), os.getcwd()))
        socket.send_fds(self._channel, [begun], [*pass_fds, stdout.fileno()])
        self._pid = pickle.loads(self._channel.recv(100))

    def kill(self) -> None:
        has_ended = self._code is not None or select.select([self._channel], [], [], 0)[0]
        if not has_ended:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        if self._code is None:
            self._code = pickle.loads(self._channel.recv(100))
            self._channel.close()
        return self._code


@cache
def template_address() -> bytes:
    """Where the template listens, which starts with the first call and ends with this process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # Linux chooses a name that is no file
        listener.listen(64)
        template = subprocess.Popen(
            [sys.executable, "-P", TEMPLATE, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
        )
        atexit.register(template.communicate)
        address: bytes = listener.getsockname()
        return address


def start(command: Sequence[str], **options: Any) -> "ForkedDecoder | subprocess.Popen[bytes]":
    if "SABOTAGE" in os.environ:
        return subprocess.Popen(command, **options)
    return ForkedDecoder(command, **options)


def fork_decoders(patch: pytest.MonkeyPatch) -> None:
    """From now on, decoder processes are copies of the template."""
    patch.setattr(process, "subprocess", SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL))
