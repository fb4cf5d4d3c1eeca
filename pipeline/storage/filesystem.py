"""Asking a store: a file system of fsspec that belongs to a URL, asked again for a while when it does not answer.

The libraries of stores are loaded with the first question, so whoever names no URL pays for none. Their errors have
no common type; they are told apart by what they carry: a status of HTTP, an errno, a name.
"""

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from cavsync.errors import CavsyncError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# fsspec's way to say that one file system is in another.
CHAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*::")
HTTP, S3 = {"http", "https"}, {"s3", "s3a"}
# How long a question is repeated.
PATIENCE_VARIABLE, DEFAULT_PATIENCE_S = "CAVSYNC_PATIENCE_S", 30.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 8.0
# A server that takes a connection and then says nothing.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0

# Statuses of HTTP after which the same question may get another answer, and those that say that there is nothing.
STATUS_AGAIN, STATUS_ABSENT = {408, 425, 429, 500, 502, 503, 504}, {404, 410}
# As s3fs says that a question is wrong, forbidden or unknown to the store.
ERRNO_NEVER = {errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE}
ERRNO_NEVER |= {errno.ENOSPC, getattr(errno, "EREMCHG", errno.ENOENT)}
NEVER: tuple[type[Exception], ...] = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
NEVER += (ImportError, NotImplementedError, ValueError, TypeError, LookupError, AttributeError)
# Those errors of botocore, by name, that are the network's.
BOTOCORE_AGAIN = {"HTTPClientError", "ConnectionError"}

T = TypeVar("T")
Question = Callable[[Any, str], T]  # gets the file system, and the path as that knows it


class StoreError(CavsyncError, OSError):
    """A store that refuses, or does not answer for too long; the message names the URL."""


def ask(url: str, deed: str, question: Question[T]) -> T:
    """The answer. `deed` says for messages what could not be done: read, written.

    Raises StoreError, and FileNotFoundError or FileExistsError where that is the answer.
    """
    files, path = file_system(url)
    stop, wait_s = time.monotonic() + _Patience.seconds(), FIRST_WAIT_S
    while True:
        try:
            answer = question(files, path)
        except Exception as raised:
            error = _root_cause(raised)
            if isinstance(error, FileNotFoundError) and deed != "written" and not _lacks_bucket(error):
                raise FileNotFoundError(f"{url} is not there") from raised
            if isinstance(error, FileExistsError):
                raise
            if not _may_pass(error) or time.monotonic() + wait_s > stop:
                raise _refusal(url, deed, error) from error
            _Patience.say(f"{url} cannot be {deed} ({_words(error)}); asking again.")
        else:
            _Patience.told = False
            return answer
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class _Patience:
    """Of this process."""

    limit_s: float | None = None  # below what the user allows
    told = False  # that a store does not answer

    @classmethod
    def seconds(cls) -> float:
        said = os.environ.get(PATIENCE_VARIABLE, str(DEFAULT_PATIENCE_S))
        try:
            allowed = float(said)
        except ValueError:
            raise StoreError(f"{PATIENCE_VARIABLE}={said!r} is no number of seconds.") from None
        return allowed if cls.limit_s is None else min(allowed, cls.limit_s)

    @classmethod
    def say(cls, line: str) -> None:
        if not cls.told and cls.limit_s is None:
            print(line, file=sys.stderr, flush=True)
        cls.told = True


@contextmanager
def patience(limit_s: float) -> Iterator[None]:
    """Within the block no question is repeated for longer."""
    before, _Patience.limit_s = _Patience.limit_s, limit_s
    try:
        yield
    finally:
        _Patience.limit_s = before


def protocol_of(url: str) -> str:
    return url.partition("://")[0].lower()


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it. Raises StoreError for one that cannot be used here."""
    scheme, _, rest = url.partition("://")
    # Only the host may say how to connect: names of files, which others have chosen, are just names.
    files = _connected(f"{scheme.lower()}://{rest.partition('/')[0]}", os.getpid())
    return files, files._strip_protocol(url)


@cache
def _connected(host: str, _: int) -> Any:
    """The file system that this process has; one that it inherited from another by a fork is of no use."""
    import fsspec

    protocol = protocol_of(host)
    try:
        kind = fsspec.get_filesystem_class(protocol)
        files = kind(**kind._get_kwargs_from_urls(host), **_options(protocol))
    except ImportError as error:
        way_out = "`pip install 'cavsync[remote]'` brings it." if protocol in S3 else "Install that."
        raise StoreError(f"{host} cannot be used: {error}. {way_out}") from error
    except ValueError as error:
        raise StoreError(
            f"{host} cannot be used: {error}. Name a path, or a URL such as s3://BUCKET/NAME."
        ) from error
    files.dircache.use_listings_cache = False  # others write while we read
    if protocol in S3:
        files.retries = 1  # see _options
    return files


def _options(protocol: str) -> dict[str, Any]:
    """Who is patient is `ask`, alone."""
    if protocol in HTTP:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    if protocol in S3:
        waits = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
        # One request at a time for a file, whose length then need not be asked first.
        return {"config_kwargs": waits | {"retries": {"total_max_attempts": 1}}, "max_concurrency": 1}
    return {}


def answered(error: StoreError) -> bool:
    """Whether an HTTP server has said no, instead of nothing."""
    return _status(error.__cause__) is not None


def _root_cause(error: Exception) -> Exception:
    """What happened: fsspec's HTTP file system calls whatever goes wrong with an address a missing file."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    is_answer = _status(cause) in STATUS_ABSENT or hasattr(cause, "response")  # of aiohttp, of botocore
    return error if is_answer else cause


def _lacks_bucket(error: Exception) -> bool:
    """Whether it is not only the file that is not there: an address that is wrong from its beginning."""
    return type(error.__cause__).__name__ == "NoSuchBucket"


def _status(error: BaseException | None) -> int | None:
    found: Any = getattr(error, "status", None)
    return found if isinstance(found, int) else None


def _may_pass(error: Exception) -> bool:
    """Whether asking again can help."""
    status = _status(error)
    if status is not None:
        return status in STATUS_AGAIN
    if type(error).__module__.startswith("botocore."):
        return bool(BOTOCORE_AGAIN & {base.__name__ for base in type(error).__mro__})
    return not isinstance(error, NEVER) and getattr(error, "errno", None) not in ERRNO_NEVER


def _refusal(url: str, deed: str, error: Exception) -> StoreError:
    way_out = (
        "The store does not answer; repeat the command when it does"
        if _may_pass(error)
        else "Check the address, your credentials and what they allow"
    )
    return StoreError(f"{url} cannot be {deed} ({_words(error)}). {way_out}.")


def _words(error: Exception) -> str:
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
