"""A file or folder at a URL, with the part of pathlib's interface that the pipeline uses. Nothing is cached between calls."""

import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Literal, TextIO, TypeVar, overload
from urllib.parse import quote, unquote, urlsplit

from cavsync.pipeline.storage.filesystem import HTTP, StoreCall, StoreError, answered, call_store, protocol_of

# Files are read in blocks of this size, a few of which are kept: an mp4's index may be at its end.
BLOCK_BYTES, BLOCKS_KEPT = 4 * 2**20, 4
# Files are written in parts of this size, one of which is in memory. S3 wants 5 MiB at least.
PART_BYTES = 8 * 2**20
COPIED_BYTES = 2**20
# An HTTP server's pages of links may go round in circles.
MAX_DEPTH = 32

T = TypeVar("T")


@dataclass(frozen=True)
class RemotePath:
    """A file or a folder; the URL ends without a slash."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{self.quoted(name)}")

    def quoted(self, name: str) -> str:
        """A file name in the form of the URL; only HTTP quotes it."""
        return quote(name) if self.is_http else name

    @property
    def is_http(self) -> bool:
        return protocol_of(self.url) in HTTP

    @property
    def name(self) -> str:
        last = self._address.rpartition("/")[2]
        return unquote(last) if self.is_http else last

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self._address.rpartition("/")[0])

    @property
    def _address(self) -> str:
        """The URL without the query that an HTTP server may want."""
        return urlsplit(self.url)._replace(query="", fragment="").geturl() if self.is_http else self.url

    def resolve(self) -> "RemotePath":
        return self

    absolute = resolve

    def exists(self) -> bool:
        return self._kind() is not None

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether something is below it. HTTP has no folders: every address counts as one if its server answers."""
        try:
            return self._kind() == "directory" or self.is_http
        except StoreError as error:
            if self.is_http and answered(error):
                return True
            raise

    def _kind(self) -> str | None:
        """ "file", "directory", or None for nothing."""
        try:
            return str(call_store(self.url, "read", lambda files, path: files.info(path))["type"])
        except FileNotFoundError:
            return None

    def num_bytes(self) -> int:
        size: int | None = call_store(self.url, "read", lambda files, path: files.info(path))["size"]
        if size is None:
            raise StoreError(f"{self.url} cannot be used: its server does not report its length.")
        return size

    def read_bytes(self) -> bytes:
        content: bytes = call_store(self.url, "read", lambda files, path: files.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_range(self, start: int, stop: int) -> bytes:
        content: bytes = call_store(
            self.url, "read", lambda files, path: files.cat_file(path, start=start, end=stop)
        )
        return content

    @overload
    def open(self, mode: Literal["rb"]) -> "RemoteFile": ...
    @overload
    def open(
        self, mode: Literal["r"] = "r", *, encoding: str | None = None, newline: str | None = None
    ) -> TextIO: ...
    def open(
        self, mode: str = "r", *, encoding: str | None = None, newline: str | None = None
    ) -> "RemoteFile | TextIO":
        if mode == "rb":
            return RemoteFile(self)
        return io.TextIOWrapper(io.BufferedReader(RemoteFile(self)), encoding=encoding, newline=newline)

    def read_through(self) -> Any:
        """An open file, for reading once from its beginning; over HTTP in one request, as many servers give no ranges."""
        return call_store(self.url, "read", _in_one_request) if self.is_http else RemoteFile(self)

    def files_below(self) -> list[str]:
        """Relative paths of the files below; none where there is no such folder, or no page of links to its files."""

        def find(files: Any, path: str) -> list[str]:
            depth = {"maxdepth": MAX_DEPTH} if self.is_http else {}
            begins = f"{path.rstrip('/')}/"
            return [
                name.removeprefix(begins) for name in files.find(path, **depth) if name.startswith(begins)
            ]

        try:
            found = call_store(self.url, "read", find)
        except FileNotFoundError:
            return []
        except StoreError as error:
            if self.is_http and answered(error):
                return []
            raise
        return list(_names_in_links(found)) if self.is_http else [name for name in found if name[-1:] != "/"]

    def write(self, file: IO[bytes]) -> None:
        """Store an open file's content; it appears when all of it is there."""

        def put(files: Any, path: str) -> None:
            file.seek(0)
            with files.transaction, files.open(path, "wb", block_size=PART_BYTES) as target:
                shutil.copyfileobj(file, target, COPIED_BYTES)

        self.require_writable()
        call_store(self.url, "written", put)

    def create(self, content: bytes) -> None:
        """Store a new file. Raises FileExistsError where one is there, if the store can tell in that moment."""
        self.require_writable()
        try:
            call_store(self.url, "written", lambda files, path: files.pipe_file(path, content, mode="create"))
        except StoreError as error:
            if not isinstance(error.__cause__, (NotImplementedError, ValueError)):
                raise
            self.write(io.BytesIO(content))

    def unlink(self, missing_ok: bool = False) -> None:
        self.require_writable()
        try:
            call_store(self.url, "removed", lambda files, path: files.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def require_writable(self) -> None:
        """Raises StoreError for HTTP, which is read-only."""
        if self.is_http:
            raise StoreError(
                f"{self.url} cannot be changed: HTTP is read-only. Name a folder, or a store such as "
                "s3://BUCKET/NAME."
            )


class RemoteFile(io.RawIOBase):
    """A seekable file that reads a block at a time.

    Libraries mistake a failed read for the end of a file; `failure` keeps the error for their caller.
    """

    def __init__(self, where: RemotePath) -> None:
        self.name, self._url = where.name, where.url
        self.failure: OSError | None = None
        self._position = 0
        self._blocks: dict[int, bytes] = {}  # in order of last use
        self._file, self._num_bytes = self._call(_opened)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer unless the file ends first: pyarrow takes a short read for a damaged file."""
        num_read = 0
        while num_read < len(buffer):
            number, start = divmod(self._position, BLOCK_BYTES)
            content = self._block(number)[start : start + len(buffer) - num_read]
            if not content:
                break
            buffer[num_read : num_read + len(content)] = content
            num_read += len(content)
            self._position += len(content)
        return num_read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._num_bytes}[whence]
        if begin + offset < 0:
            raise ValueError(f"{begin + offset} is before the file")
        self._position = begin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            self._blocks.clear()
        super().close()

    def _block(self, number: int) -> bytes:
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._fetched(number * BLOCK_BYTES)
        self._blocks[number] = block
        if len(self._blocks) > BLOCKS_KEPT:
            del self._blocks[next(iter(self._blocks))]
        return block

    def _fetched(self, start: int) -> bytes:
        stop = min(start + BLOCK_BYTES, self._num_bytes)

        def fetch(*_: object) -> bytes:
            self._file.seek(start)
            content: bytes = self._file.read(stop - start)
            return content

        if start >= stop:
            return b""
        try:
            return self._call(fetch)
        except StoreError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
        self.failure = None
        self._file, self._num_bytes = self._call(_copied)  # its server gives no ranges
        return self._call(fetch)

    def _call(self, call: StoreCall[T]) -> T:
        try:
            return call_store(self._url, "read", call)
        except OSError as error:
            self.failure = error
            raise


def _opened(files: Any, path: str) -> tuple[Any, int]:
    """An open file and its length."""
    file = files.open(path, "rb", cache_type="none")
    size = getattr(file, "size", None)
    if size is not None:
        return file, size
    file.close()  # a response of unknown length can only be read from front to back
    return _copied(files, path)


def _in_one_request(files: Any, path: str) -> Any:
    """An open file of an HTTP server."""
    return files.open(path, "rb", block_size=0)


def _copied(files: Any, path: str) -> tuple[Any, int]:
    """A local copy without a name, and its length."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    with _in_one_request(files, path) as source:
        shutil.copyfileobj(source, copy, COPIED_BYTES)
    return copy, copy.tell()


def _names_in_links(links: Iterable[str]) -> Iterator[str]:
    """Relative paths of the files that links point to; links with a query, or out of the folder, are left out."""
    for link in links:
        name = unquote(link)
        if not link.endswith("/") and not {"?", "#"} & set(link) and ".." not in name.split("/"):
            yield name
