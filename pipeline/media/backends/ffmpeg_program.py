"""Runs the ffmpeg program as a child process: without a shell, within a deadline, keeping the end of its log."""

import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import IO

import imageio_ffmpeg

from cavsync.pipeline.dataset.schema import ClipState, MediaError
from cavsync.pipeline.media.demuxing.deadline import Deadline

# What is kept of a log, from its end.
TAIL_BYTES = 2000


@cache
def ffmpeg_path() -> str:
    """The program on the PATH, else the one that comes with imageio-ffmpeg."""
    return shutil.which("ffmpeg") or str(imageio_ffmpeg.get_ffmpeg_exe())


@cache
def ffmpeg_version() -> str:
    """As the program prints it, such as 7.1.1."""
    printed = subprocess.run(
        [ffmpeg_path(), "-version"], capture_output=True, text=True, timeout=60, check=True
    )
    return printed.stdout.split()[2]  # "ffmpeg version 7.1.1 Copyright ..."


@contextmanager
def output_of(arguments: Sequence[str], deadline: Deadline) -> Iterator[IO[bytes]]:
    """What the program writes to its stdout; it is dead at the end, at the latest at the deadline.

    Raises MediaError at a deadline that passed and for a program that failed.
    """
    # A file, because a full pipe of messages would stop the program.
    with tempfile.TemporaryFile() as log:
        command = [ffmpeg_path(), *arguments]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as child:
            alarm = threading.Timer(deadline.left_s, child.kill)
            alarm.start()
            try:
                assert child.stdout is not None
                yield child.stdout
                child.stdout.close()
                child.wait()
            finally:
                alarm.cancel()
                child.kill()
        deadline.check()
        if child.returncode:
            raise MediaError(ClipState.DECODE_ERROR, f"the ffmpeg program failed: {_last_line(log)}")


def _last_line(log: IO[bytes]) -> str:
    """The last line of the log, without addresses in memory, which differ from run to run."""
    log.seek(max(0, log.seek(0, 2) - TAIL_BYTES))
    lines = log.read().decode(errors="replace").strip().splitlines() or ["its log is empty"]
    return re.sub(r" @ 0x[0-9a-f]+", "", lines[-1])
