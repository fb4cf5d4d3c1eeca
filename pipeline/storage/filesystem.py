"""Calls to a store through fsspec's file system for its URL, retried for a while when the store does not answer.

The libraries of stores are loaded with the first call, so a run without URLs loads none. Their errors have no common
type; they are told apart by their HTTP status, errno or class name.
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
CHAINED_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*::")
HTTP, S3, HUB = {"http", "https"}, {"s3", "s3a"}, {"hf"}
# Requests to a store that are open at one time. At 50 ms each, 40,000 small files take half a minute.
MAX_REQUESTS = 64
# How long a call is retried.
RETRY_TIMEOUT_VARIABLE, DEFAULT_RETRY_TIMEOUT_S = "CAVSYNC_RETRY_TIMEOUT_S", 30.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 8.0
# A server that takes a connection and then says nothing.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0

# HTTP statuses after which a retry may succeed, and those that mean that the file is absent.
STATUS_AGAIN, STATUS_ABSENT = {408, 425, 429, 500, 502, 503, 504}, {404, 410}
# How s3fs reports a call that is wrong, forbidden or unknown to the store.
ERRNO_NEVER = {errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE}
ERRNO_NEVER |= {errno.ENOSPC, getattr(errno, "EREMCHG", errno.ENOENT)}
NEVER: tuple[type[Exception], ...] = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
NEVER += (ImportError, NotImplementedError, ValueError, TypeError, LookupError, AttributeError)
# Errors of botocore, by name, that come from the network.
BOTOCORE_AGAIN = {"HTTPClientError", "ConnectionError"}
# Errors, by name, of a file that is not there because all it lies in is not: a bucket, a repository of the hub.
ABSENT_ABOVE = {"NoSuchBucket", "RepositoryNotFoundError", "RevisionNotFoundError", "BucketNotFoundError"}
# What huggingface_hub raises, by name, where the user has forbidden it the network.
OFFLINE = "OfflineModeIsEnabled"

T = TypeVar("T")
StoreCall = Callable[[Any, str], T]  # gets the file system, and the path in its form


class StoreError(CavsyncError, OSError):
    """A store refuses an operation, or does not answer for too long; the message names the URL."""


def call_store(url: str, operation: str, call: StoreCall[T]) -> T:
    """What `call` returns, retried for the retry timeout. `operation` is a participle for messages: read, written.

    Raises StoreError, and FileNotFoundError or FileExistsError where the store says so.
    """
    files, path = file_system(url)
    stop, wait_s = time.monotonic() + _RetryState.seconds(), FIRST_WAIT_S
    while True:
        try:
            result = call(files, path)
        except Exception as raised:
            error = _root_cause(raised)
            if isinstance(error, FileNotFoundError) and operation != "written" and not _lacks_all(error):
                raise FileNotFoundError(f"{url} is not there") from raised
            if isinstance(error, FileExistsError):
                raise
            if not _is_temporary(error) or time.monotonic() + wait_s > stop:
                raise _store_error(url, operation, error) from error
            _RetryState.log(f"{url} cannot be {operation} ({_message(error)}); retrying.")
        else:
            _RetryState.has_logged = False
            return result
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class _RetryState:
    """Retries of this process."""

    limit_s: float | None = None  # below the user's timeout
    has_logged = False  # one line for all retries in a row

    @classmethod
    def seconds(cls) -> float:
        value = os.environ.get(RETRY_TIMEOUT_VARIABLE, str(DEFAULT_RETRY_TIMEOUT_S))
        try:
            allowed = float(value)
        except ValueError:
            raise StoreError(f"{RETRY_TIMEOUT_VARIABLE}={value!r} is no number of seconds.") from None
        return allowed if cls.limit_s is None else min(allowed, cls.limit_s)

    @classmethod
    def log(cls, line: str) -> None:
        if not cls.has_logged and cls.limit_s is None:
            print(line, file=sys.stderr, flush=True)
        cls.has_logged = True


@contextmanager
def retry_timeout(limit_s: float) -> Iterator[None]:
    """Within the block no call is retried for longer than `limit_s`."""
    before, _RetryState.limit_s = _RetryState.limit_s, limit_s
    try:
        yield
    finally:
        _RetryState.limit_s = before


def protocol_of(url: str) -> str:
    return url.partition("://")[0].lower()


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it. Raises StoreError for one that cannot be used here."""
    scheme, _, rest = url.partition("://")
    # Only the host decides how to connect: file names are data that others have chosen.
    files = _connected(f"{scheme.lower()}://{rest.partition('/')[0]}", os.getpid())
    return files, files._strip_protocol(url)


@cache
def _connected(host: str, _: int) -> Any:
    """One file system for each process and host: connections do not survive a fork."""
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
    if protocol not in HUB:  # whose file system keeps listings in any case
        files.dircache.use_listings_cache = False  # others write while we read
    if protocol in S3:
        files.retries = 1  # see _options
    return files


def _options(protocol: str) -> dict[str, Any]:
    """Options that leave retries to `call_store` alone."""
    if protocol in HTTP:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    if protocol in S3:
        config = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"total_max_attempts": 1},
            # botocore's own number is ten, and the other requests would wait for a connection.
            "max_pool_connections": MAX_REQUESTS,
        }
        # One request at a time for a file, whose length then need not be asked first.
        return {"config_kwargs": config, "max_concurrency": 1}
    return {}


def answered(error: StoreError) -> bool:
    """Whether an HTTP server has answered with an error, instead of not at all."""
    return _status(error.__cause__) is not None


def _root_cause(error: Exception) -> Exception:
    """The original error: fsspec's HTTP file system reports every failure of an address as a missing file."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    is_answer = _status(cause) in STATUS_ABSENT or hasattr(cause, "response")  # of aiohttp, of botocore
    return error if is_answer else cause


def _lacks_all(error: Exception) -> bool:
    """Whether the bucket or repository is missing, and not only the file."""
    return bool(ABSENT_ABOVE & {base.__name__ for base in type(error.__cause__).__mro__})


def _status(error: BaseException | None) -> int | None:
    """The HTTP status: an attribute of aiohttp's errors, of the answer in those of huggingface_hub."""
    found: Any = getattr(error, "status", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    return found if isinstance(found, int) else None


def _is_temporary(error: Exception) -> bool:
    """Whether a retry can help."""
    status = _status(error)
    if status is not None:
        return status in STATUS_AGAIN
    if type(error).__name__ == OFFLINE:
        return False
    if type(error).__module__.startswith("botocore."):
        return bool(BOTOCORE_AGAIN & {base.__name__ for base in type(error).__mro__})
    return not isinstance(error, NEVER) and getattr(error, "errno", None) not in ERRNO_NEVER


def _store_error(url: str, operation: str, error: Exception) -> StoreError:
    way_out = (
        "The store does not answer; repeat the command when it does"
        if _is_temporary(error)
        else "Check the address, your credentials and what they allow"
    )
    return StoreError(f"{url} cannot be {operation} ({_message(error)}). {way_out}.")


def _message(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
