"""The Hugging Face hub as its readers see it: repositories that are folders here, listed in pages, read in ranges."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pytest
from huggingface_hub import constants

from cavsync.pipeline.storage import filesystem

COMMIT = "0" * 40
PAGE = 2  # entries of a listing that come in one answer


@contextmanager
def dataset_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serves `folder`/datasets/ORG/NAME and `folder`/models/ORG/NAME to this process; yields the requests so far."""
    requests: list[str] = []
    handler = type("Handler", (_Handler,), {"folder": folder, "requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)  # for processes that this one starts
    # The client read them when it was imported.
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    filesystem._connected.cache_clear()
    try:
        yield requests
    finally:
        filesystem._connected.cache_clear()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD; whatever changes a repository is answered with 405."""

    protocol_version = "HTTP/1.1"
    folder: Path
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        *api, kind, organisation, name, verb, rest = _parts(url.path)
        repository = self.folder / kind / organisation / name
        if organisation == "forbidden":
            self._answer(403, {"error": "on request"})
        elif not repository.is_dir():
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif not api:
            self._send_file(repository / rest)
        elif verb in ("", "revision"):
            files = [
                path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()
            ]
            siblings = [{"rfilename": file} for file in files]
            self._answer(200, {"id": f"{organisation}/{name}", "sha": COMMIT, "siblings": siblings})
        elif verb == "tree":
            self._list(repository, rest, parse_qs(url.query))
        else:
            self._answer(404, {"error": "no such address"})

    do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

    def do_POST(self) -> None:
        self._answer(405, {"error": "this hub is only read"})

    def _list(self, repository: Path, below: str, query: dict[str, list[str]]) -> None:
        """One page of a folder, and the address of the next one."""
        folder = repository / below
        if not folder.is_dir():
            return self._answer(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
        recursive = query.get("recursive", ["False"])[0].lower() == "true"
        entries = sorted(folder.rglob("*") if recursive else folder.iterdir())
        start = int(query.get("cursor", ["0"])[0])
        page = [_entry(repository, entry) for entry in entries[start : start + PAGE]]
        more = {}
        if start + PAGE < len(entries):
            following = urlencode({**{name: one[0] for name, one in query.items()}, "cursor": start + PAGE})
            address = f"http://{self.headers['Host']}{urlsplit(self.path).path}?{following}"
            more = {"Link": f'<{address}>; rel="next"'}
        return self._answer(200, page, more)

    def _send_file(self, file: Path) -> None:
        if not file.is_file():
            return self._answer(404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"})
        content, headers = file.read_bytes(), {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT}
        wanted = self.headers.get("Range")
        if wanted is None:
            return self._send(200, content, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return self._send(206, part, headers)

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(
            status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _parts(path: str) -> list[str]:
    """ "api" for a call of the API; then kind, organisation, name, verb and the path in the repository."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    api = [parts.pop(0)] if parts[0] == "api" else []
    kind = parts.pop(0) if parts[0] in ("datasets", "models") else "models"
    organisation, name, verb, *rest = [*parts, ""][: max(3, len(parts))]
    return [*api, kind, organisation, name, verb, "/".join(rest[1:])]  # after the revision


def _entry(repository: Path, path: Path) -> dict[str, Any]:
    below = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": COMMIT, "size": 0, "path": below}
    return {"type": "file", "oid": _digest(path), "size": path.stat().st_size, "path": below}


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
