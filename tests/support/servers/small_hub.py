"""As much of the Hugging Face hub as a push and a download need, on this machine: files are kept in a folder."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "0" * 40


@contextmanager
def small_hub(folder: Path) -> Iterator[str]:
    """Its address."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_POST(self) -> None:
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
        )
        if self.path == "/api/repos/create":
            request = json.loads(body)
            name = "/".join(filter(None, (request.get("organization", "me"), request["name"])))
            self._answer({"url": f"http://{self.headers['Host']}/{name}", "name": name, "id": "1"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, (body or self._chunks()).splitlines()):
                if line["key"] == "file":
                    self._keep(line["value"]["path"], base64.b64decode(line["value"]["content"]))
            self._answer(
                {"commitOid": COMMIT, "commitUrl": f"http://{self.headers['Host']}/me/own/commit/{COMMIT}"}
            )
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            return self._answer({"id": "me/own", "sha": COMMIT, "siblings": []})
        file = self.folder / self.path.partition("/resolve/main/")[2]
        if not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

    def _keep(self, path: str, content: bytes) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / path).write_bytes(content)

    def _chunks(self) -> bytes:
        """A chunked body: each part carries its own length."""
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        return content

    def _answer(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
