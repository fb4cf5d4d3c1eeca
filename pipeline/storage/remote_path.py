"""A file or folder at a URL, with the part of pathlib's interface that the pipeline uses. Nothing is cached between calls."""

import io
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Literal, TextIO, overload
from urllib.parse import quote, unquote, urlsplit

from cavsync.pipeline.storage.filesystem import HTTP, HUB, StoreError, answered, call_store, protocol_of
from cavsync.pipeline.storage.remote_file import COPIED_BYTES, RemoteFile, in_one_request

# Files are written in parts of this size, one of which is in memory. S3 wants 5 MiB at least.
PART_BYTES = 8 * 2**20
# An HTTP server's pages of links may go round in circles.
MAX_DEPTH = 32


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
    def _is_at_hub(self) -> bool:
        """Whether it lies in a repository of the Hugging Face hub."""
        return protocol_of(self.url) in HUB

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

    def stamp(self) -> str:
        """Changes with the content, as far as the store says: length, and tag or time of change."""
        facts: dict[str, Any] = call_store(self.url, "read", lambda files, path: files.info(path))
        tags = (facts.get(name) for name in ("ETag", "Last-Modified", "LastModified", "mtime", "blob_id"))
        return f"{facts.get('size')} {next(filter(None, tags), '')}"

    def read_bytes(self) -> bytes:
        content: bytes = call_store(self.url, "read", lambda files, path: files.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_range(self, start: int, stop: int) -> bytes:
        def read(files: Any, path: str) -> bytes:
            # The hub's cat_file reads 5 MiB more than it is asked for.
            if self._is_at_hub:
                with files.open(path, "rb", cache_type="none") as file:
                    file.seek(start)
                    return bytes(file.read(stop - start))
            return bytes(files.cat_file(path, start=start, end=stop))

        return call_store(self.url, "read", read)

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
            return RemoteFile(self.url, self.name)
        return io.TextIOWrapper(
            io.BufferedReader(RemoteFile(self.url, self.name)), encoding=encoding, newline=newline
        )

    def read_through(self) -> Any:
        """An open file, for reading once from its beginning; over HTTP in one request, as many servers give no ranges."""
        if self.is_http or self._is_at_hub:
            return call_store(self.url, "read", in_one_request)
        return RemoteFile(self.url, self.name)

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
        """Raises StoreError for HTTP, which is read-only, and for the hub, where each file would be a commit."""
        if self.is_http:
            raise StoreError(
                f"{self.url} cannot be changed: HTTP is read-only. Name a folder, or a store such as "
                "s3://BUCKET/NAME."
            )
        if self._is_at_hub:
            raise StoreError(
                f"{self.url} cannot be changed: the hub is only read here. Name a folder, and upload that when it is "
                "finished: `hf upload-large-folder ORG/NAME FOLDER --repo-type dataset`."
            )


def _names_in_links(links: Iterable[str]) -> Iterator[str]:
    """Relative paths of the files that links point to; links with a query, or out of the folder, are left out."""
    for link in links:
        name = unquote(link)
        if not link.endswith("/") and not {"?", "#"} & set(link) and ".." not in name.split("/"):
            yield name
