"""The root of the errors that the user can fix, from which every other one derives; the error of a failed write; names in messages."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# A write that fails with one of these failed because of the disk, whatever was written.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What helps against a reason for which a file cannot be written.
ADVICE = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Make room on that disk, or write to another place"
)
ADVICE |= {errno.ENOTDIR: "A part of that path is a file; write to another place"}


class CavsyncError(Exception):
    """Expected failure: the message names what is wrong, where, and what to do. The CLI prints it alone."""


class PeerFailedError(CavsyncError):
    """A process of a run stops because another one failed; that one reports why, so the CLI prints nothing."""

    def __init__(self, rank: int) -> None:
        super().__init__(
            f"Process {rank} stops because another process of the run failed, which reports why."
        )


class OutputError(CavsyncError, OSError):
    """A file or folder of results that cannot be written, or that holds results of other inputs."""


@contextmanager
def writing_output(path: Path | str, *kinds: type[Exception], way_out: str = "") -> Iterator[None]:
    """OutputError, which names `path`, the reason and a way out, for an OSError or one of `kinds` in the block.

    `kinds` are what a library raises where its file cannot be written; `way_out` completes the usual one.
    """
    expected: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except CavsyncError:
        raise
    except expected as error:
        raise output_error(path, error, way_out) from error


def first_of(names: Sequence[str], most: int) -> str:
    """The first `most` names for a message, and "..." where there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def output_error(path: Path | str, error: Exception, way_out: str = "") -> OutputError:
    """The message on `path`, which could not be written because of `error`."""
    number = getattr(error, "errno", None)
    reason = (getattr(error, "strerror", None) or str(error)).partition("\n")[0].rstrip(".")
    advice = ADVICE.get(number or 0, "Write to another place")
    explained = OutputError(f"{path} cannot be written: {reason}. {advice}{way_out and f': {way_out}'}.")
    explained.errno = number
    return explained
