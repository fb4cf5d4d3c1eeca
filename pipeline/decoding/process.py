"""Starts the decoder process and sends it requests: a bad file loses only its own clip.

No command decodes a user's file elsewhere. The owner sends request by request; when the decoder process dies it starts
another and sends the request again, and a file over which two have died is `crashed`. A timer of the kernel, armed in `worker.py`, ends a
native call that hangs, so it needs no thread and no lock of the interpreter. The decoder process writes no file, so
nothing of it is left when its owner is killed: it ends after the request in work.
"""

import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from types import TracebackType
from typing import Any, Self

from cavsync.errors import CavsyncError
from cavsync.pipeline.dataset.config import PrepareConfig
from cavsync.pipeline.dataset.plan_row import PlanRow
from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.decoding.requests import (
    ClipRequest,
    DurationRequest,
    MediaSegment,
    PreparedClip,
    Request,
    SegmentRequest,
    failed,
)
from cavsync.pipeline.storage.filesystem import StoreError
from cavsync.pipeline.storage.path import MediaPath, as_path

# The module that the decoder process runs; importing it here would not be light.
WORKER_MODULE = "cavsync.pipeline.decoding.worker"
# A request is given up when its decoder has died so often.
MAX_DEATHS = 2
# A worker has one core; more threads of OpenBLAS would wait for each other on it, or take another worker's.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# Native decoders may leak: a new process after so many requests.
REQUESTS_PER_PROCESS = 5_000


class DecoderError(CavsyncError):
    """The decoder process does not start."""


class DecoderDiedError(Exception):
    """The decoder process died over a request."""

    def __init__(self, cause: str, timed_out: bool) -> None:
        super().__init__(cause)
        self.timed_out = timed_out


class DecoderProcess:
    """A decoder that survives every file. Its process starts with the first request; the `with` block ends it."""

    def __init__(self) -> None:
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop()

    def prepare(self, row: PlanRow, config: PrepareConfig, source: MediaPath | None = None) -> PreparedClip:
        """The clip of a plan row that has a video, in whatever state it ends; `source` says where the row's source lies,
        if that is in an archive. Raises StoreError where the video's store fails.
        """
        try:
            clip: PreparedClip = self.ask(ClipRequest(row, config, source))
        except MediaError as error:
            return failed(row, error.state, error.reason)
        return clip

    def read(self, request: SegmentRequest) -> MediaSegment:
        """Raises MediaError for a file that cannot be read there, StoreError where its store fails."""
        segment: MediaSegment = self.ask(request)
        return segment

    def duration_s(self, source: str | MediaPath) -> float | None:
        """How long the file's header says it lasts; None where it does not say, or cannot be read.

        Raises StoreError where its store fails.
        """
        request = DurationRequest(source)
        try:
            try:
                seconds: float | None = self.ask(request)
            except StoreError:
                # The decoder process does not wait for a store; this does, for as long as the user allows.
                as_path(source).is_file()
                seconds = self.ask(request)
        except MediaError:
            return None
        return seconds

    def ask(self, request: Request) -> Any:
        """The answer. Raises the answer's MediaError or StoreError, and MediaError for a request over which the decoder
        hangs, or dies twice.
        """
        for _ in range(MAX_DEATHS):
            try:
                answer = self._ask(request)
            except DecoderDiedError as death:
                self._stop()
                if death.timed_out:
                    late = f"not decoded within {request.timeout_s:g} s"
                    raise MediaError(ClipState.TIMEOUT, late) from death
                cause = str(death)
            else:
                if isinstance(answer, MediaError | StoreError):
                    raise answer
                return answer
        raise MediaError(ClipState.CRASHED, f"its decoder died {MAX_DEATHS} times: {cause}")

    def _ask(self, request: Request) -> Any:
        if self._running is None:
            self._running = _Running()
        answer = self._running.ask(request)
        if self._running.num_requests >= REQUESTS_PER_PROCESS:
            self._stop()
        return answer

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None


class _Running:
    """One decoder process while it lives."""

    def __init__(self) -> None:
        self.num_requests = 0
        self._connection, theirs = Pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        # -P: not a module of the folder that the user happens to be in.
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", WORKER_MODULE, str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=os.environ | ONE_THREAD,
        )
        theirs.close()
        self._ready = False

    def ask(self, request: Request) -> Any:
        """Raises DecoderDiedError when the process ends without an answer."""
        self.num_requests += 1
        self._wait_until_ready()
        try:
            self._connection.send(request)
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._death(request.title) from error

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()
        self._log.close()

    def _wait_until_ready(self) -> None:
        try:
            self._ready = self._ready or self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.wait()
            raise DecoderError(f"The decoder does not start: {self._logged()}") from error

    def _death(self, title: str) -> DecoderDiedError:
        code, logged = self._process.wait(), self._logged()
        if code == -signal.SIGALRM:
            return DecoderDiedError("it hung", timed_out=True)
        last_line = logged.rpartition("\n")[2]
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else last_line or f"exit code {code}"
        print(f"{title}: its decoder died ({cause}).\n{logged}".rstrip(), file=sys.stderr, flush=True)
        return DecoderDiedError(cause, timed_out=False)

    def _logged(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()
