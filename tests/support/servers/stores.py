"""Stores on this machine: an S3 server that can fail on request, be killed and come back, and an HTTP server.

Both run in threads of the test; what the S3 server holds outlives its death, as on a disk.
"""

import asyncio
import fnmatch
import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

BUCKET = "bucket"
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>on request</Message></Error>"
CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


@dataclass
class Fault:
    """What to do at requests such as "GET /bucket/videos/a.mp4"; a query follows a ?."""

    request: str  # a pattern
    status: int | None = None  # to answer; None: answer as ever
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None  # when the store has done it, and its client does not know yet
    cut: bool = False  # the answer ends in its middle
    times: int | None = None  # the first ones only
    seen: int = 0

    def is_due(self, request: str) -> bool:
        hit = fnmatch.fnmatch(request, self.request) and (self.times is None or self.seen < self.times)
        self.seen += hit
        return hit


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        pass


@dataclass
class S3Store:
    """Use it in a `with` block, which starts and ends its server."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    is_up: bool = False
    _port: int = 0

    def __enter__(self) -> Self:
        self._app = DomainDispatcherApplication(create_backend_app)
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets.clear()
        s3_backends.bucket_accounts.clear()  # names that are taken, for the next store of this process

    def start(self) -> None:
        self.is_up = True
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", self._port, self._serve, threaded=True, request_handler=_Quiet
        )
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def stop(self) -> None:
        """From now on no client can connect, and open connections get no answer."""
        self.is_up = False
        self._server.shutdown()
        self._server.server_close()

    @property
    def env(self) -> dict[str, str]:
        """What a command needs to find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def put(self, name: str, content: bytes) -> None:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, name, content)

    def put_folder(self, folder: Path, name: str) -> str:
        """Its URL."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())
        return f"s3://{BUCKET}/{name}"

    def delete(self, name: str) -> None:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].delete_object(BUCKET, name)

    def files(self, name: str) -> dict[str, bytes]:
        """What is below, by relative name."""
        keys = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[BUCKET].keys
        return {
            key.removeprefix(f"{name}/"): one.value for key, one in keys.items() if key.startswith(f"{name}/")
        }

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        self.faults[:] = faults
        try:
            yield
        finally:
            self.faults.clear()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = environ["QUERY_STRING"]
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{'?' if query else ''}{query}"
        # To be read to its end, or what is left of it is taken for the next request of the connection.
        environ["wsgi.input"] = io.BytesIO(
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        )
        self.requests.append(request)
        due = [fault for fault in self.faults if fault.is_due(request)]
        for fault in due:
            fault.before()
            if fault.status is not None:
                start_response(f"{fault.status} on request", [("Content-Type", "text/xml")])
                return [] if request.startswith("HEAD") else [ERROR.format(code=CODES[fault.status]).encode()]
        answer = b"".join(self._app(environ, start_response)) if self.is_up else b""
        for fault in due:
            fault.after()
        is_cut = any(fault.cut for fault in due)
        return _cut(answer, environ["werkzeug.socket"]) if is_cut or not self.is_up else [answer]


def _cut(answer: bytes, connection: socket.socket) -> Iterator[bytes]:
    """Half of an answer, if there is one, and the end of the connection."""
    if answer:
        yield answer[: len(answer) // 2]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("on request")


@contextmanager
def http_server(folder: Path, *, lists_folders: bool = True) -> Iterator[str]:
    """The address of a server that answers for ranges of its files and lists folders as pages of links, if at all."""
    app = web.Application()
    app.router.add_static("/", folder, show_index=lists_folders, follow_symlinks=True)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(start(), loop).result()}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
