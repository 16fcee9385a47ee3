"""A small model hub on this machine, with faults to order."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlparse


@dataclass
class Faults:
    """What goes wrong, until it is changed.

    Attributes:
        everywhere: "missing", "gated", "revision", "error 500" or "silent", or "".
        weights: "drop" (the connection breaks in the middle, once), "stall" (no more bytes come),
            or "".
        bytes_per_s: speed at which weights are sent; 0 for no limit.
    """

    everywhere: str = ""
    weights: str = ""
    bytes_per_s: int = 0


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    range: str
    authorization: str


@dataclass
class FakeHub:
    """Serves folders as repositories: `root/<owner>/<name>/<files>`, at any revision."""

    root: Path
    faults: Faults = field(default_factory=Faults)
    requests: list[Seen] = field(default_factory=list)
    sent_bytes: int = 0

    def __enter__(self) -> "FakeHub":
        hub = self

        class Handler(_Handler):
            owner = hub

        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait(self) -> None:
        """Say nothing until the hub closes."""
        self._closing.wait(60)


class _Handler(BaseHTTPRequestHandler):
    owner: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        headers = (self.headers.get("Range", ""), self.headers.get("Authorization", ""))
        self.owner.requests.append(Seen(self.command, path, *headers))
        fault = self.owner.faults.everywhere
        if fault == "silent":
            self.owner.wait()
            self.close_connection = True
            return
        if path == "/api/models":
            self._json([], body)
        elif fault == "error 500":
            self._error(500, "")
        elif fault == "missing":
            self._error(404, "RepoNotFound")
        elif fault == "revision":
            self._error(404, "RevisionNotFound")
        elif path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/"), body)
        elif fault == "gated":
            self._error(403, "GatedRepo")
        else:
            self._file(path, body)

    def _describe(self, rest: str, body: bool) -> None:
        owner, name, *more = rest.split("/")
        folder = self.owner.root / owner / name
        if not folder.is_dir():
            self._error(404, "RepoNotFound")
            return
        deep = "recursive=true" in self.path.lower()
        found = folder.rglob("*") if deep else folder.glob("*")
        files = sorted(path for path in found if path.is_file())
        if more[:1] == ["tree"]:
            rows = [
                {
                    "type": "file",
                    "path": str(path.relative_to(folder)),
                    "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
                }
                for path in files
            ]
            self._json(rows, body)
            return
        revision = more[1] if more[:1] == ["revision"] else "main"
        siblings = [{"rfilename": str(path.relative_to(folder))} for path in files]
        self._json({"id": f"{owner}/{name}", "sha": revision, "siblings": siblings}, body)

    def _file(self, path: str, body: bool) -> None:
        owner, name, _, revision, *rest = path.strip("/").split("/")
        file = self.owner.root / owner / name / "/".join(rest)
        if not file.is_file():
            self._error(404, "EntryNotFound")
            return
        data = file.read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if self.headers.get("Range") else 200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", revision)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            self._send(data[start:], is_weights=file.suffix in {".safetensors", ".bin"})

    def _send(self, data: bytes, *, is_weights: bool) -> None:
        faults, piece = self.owner.faults, 64 * 1024
        for sent in range(0, len(data), piece):
            if is_weights and faults.weights and sent >= len(data) // 2:
                if faults.weights == "drop":
                    faults.weights = ""
                    self.close_connection = True
                    self.connection.close()
                    return
                self.owner.wait()
                return
            self.wfile.write(data[sent : sent + piece])
            self.owner.sent_bytes += len(data[sent : sent + piece])
            if is_weights and faults.bytes_per_s:
                time.sleep(piece / faults.bytes_per_s)

    def _json(self, value: Any, body: bool) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
