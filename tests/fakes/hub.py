"""A small model hub on this machine, with faults to order.

Weights are served as the real hub serves large files: under their SHA-256, and where `cdn` is set
through a redirect to another host.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from tests.fakes.local_server import LocalServer

PIECE = 64 * 1024
WEIGHTS = {".safetensors", ".bin"}

#: Fault -> status and error code, as the real hub gives them.
REFUSALS = {
    "missing": (404, "RepoNotFound"),
    "private": (401, "RepoNotFound"),
    "revision": (404, "RevisionNotFound"),
    "error 500": (500, ""),
    "error 503": (503, ""),
}
GATED = {"gated": (403, "GatedRepo"), "gated, no token": (401, "GatedRepo")}


@dataclass
class Faults:
    """What goes wrong, until it is changed.

    Attributes:
        everywhere: one of `REFUSALS` or `GATED`, "silent" (accepts and never answers), or "".
        weights: in the middle of a file of weights "drop" (the connection breaks) or "stall" (no
            more bytes come); "no range" (what was sent is sent again); "damage" (a byte is
            wrong); "error 503" instead of the file; or "".
        times: how often `weights` happens; -1 for always.
        silent_path: requests whose path holds this are never answered; "" for none.
        bytes_per_s: speed at which weights are sent; 0 for no limit.
        probe_too: whether `everywhere` also concerns the question whether anybody is there;
            silence does in any case.
    """

    everywhere: str = ""
    weights: str = ""
    times: int = -1
    silent_path: str = ""
    bytes_per_s: int = 0
    probe_too: bool = False


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    host: str
    range: str
    authorization: str


@dataclass
class FakeHub(LocalServer):
    """Serves folders as repositories: `root/<owner>/<name>/<files>`, at any revision.

    Attributes:
        root: the folder of repositories.
        cdn: address of another fake hub, to which requests for weights are led; "" for none.
        faults: what goes wrong.
        requests: what was asked, in order.
        sent_bytes: bytes of files sent so far.
    """

    root: Path
    cdn: str = ""
    faults: Faults = field(default_factory=Faults)
    requests: list[Seen] = field(default_factory=list)
    sent_bytes: int = 0

    def __post_init__(self) -> None:
        self.handler = _Handler

    def wait(self) -> None:
        """Say nothing until the hub closes."""
        self.closing.wait(60)

    def count(self, sent: int) -> None:
        with self.lock:
            self.sent_bytes += sent

    def fault_of_weights(self, name: str) -> bool:
        """Whether this fault happens now; it has then happened once more."""
        with self.lock:
            if self.faults.weights != name or self.faults.times == 0:
                return False
            self.faults.times -= 1
            return True

    @contextmanager
    def with_faults(self, faults: Faults) -> Iterator[None]:
        """Have `faults` for the length of the block only."""
        before, self.faults = self.faults, faults
        try:
            yield
        finally:
            self.faults = before


@lru_cache
def _hashes(file: Path, size: int, modified_ns: int) -> tuple[str, str]:
    """Return SHA-256 of a file and git's own hash of it."""
    content = file.read_bytes()
    head = f"blob {size}\0".encode()
    return hashlib.sha256(content).hexdigest(), hashlib.sha1(head + content).hexdigest()


def _facts(file: Path) -> tuple[int, str, str]:
    """Return size, SHA-256 and git's hash."""
    status = file.stat()
    return status.st_size, *_hashes(file, status.st_size, status.st_mtime_ns)


class _Handler(BaseHTTPRequestHandler):
    owner: FakeHub
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = urlparse(self.path)  # a whole one where we are asked as a proxy
        path = unquote(address.path)
        sent = [self.headers.get(name, "") for name in ("Host", "Range", "Authorization")]
        self.owner.requests.append(Seen(self.command, path, *sent))
        faults = self.owner.faults
        if faults.everywhere == "silent" or (faults.silent_path and faults.silent_path in path):
            self.owner.wait()
            self.close_connection = True
        elif path == "/api/models" and not faults.probe_too:
            self._json([])
        elif faults.everywhere in REFUSALS:
            self._error(*REFUSALS[faults.everywhere])
        elif path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/"), address.query.lower())
        elif faults.everywhere in GATED:
            self._error(*GATED[faults.everywhere])
        else:
            self._file(path)

    def _describe(self, rest: str, query: str) -> None:
        owner, name, *more = rest.split("/")
        folder = self.owner.root / owner / name
        if not folder.is_dir():
            self._error(404, "RepoNotFound")
            return
        if more[:1] == ["tree"]:
            found = folder.rglob("*") if "recursive=true" in query else folder.glob("*")
            self._json([_row(path, folder) for path in sorted(found)])
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        revision = more[1] if more[:1] == ["revision"] else "main"
        siblings = [
            {"rfilename": row["path"], **({key: row[key] for key in row if key != "path"})}
            if "blobs=true" in query
            else {"rfilename": row["path"]}
            for row in (_row(path, folder) for path in files)
        ]
        self._json({"id": f"{owner}/{name}", "sha": revision, "siblings": siblings})

    def _file(self, path: str) -> None:
        owner, name, resolve, revision, *rest = path.strip("/").split("/")
        file = self.owner.root / owner / name / "/".join(rest)
        if resolve not in {"resolve", "from-cdn"} or not file.is_file():
            self._error(404, "EntryNotFound")
            return
        is_weights = file.suffix in WEIGHTS
        if is_weights and self.owner.cdn and resolve == "resolve":
            self.send_response(302)
            self.send_header("Location", self.owner.cdn + path.replace("/resolve/", "/from-cdn/"))
            self._name(file, revision)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.command == "GET" and is_weights and self.owner.fault_of_weights("error 503"):
            self._error(503, "")
        else:
            self._content(file, revision, is_weights)

    def _name(self, file: Path, revision: str) -> None:
        size, sha256, git = _facts(file)
        self.send_header("X-Repo-Commit", revision)
        self.send_header("ETag", f'"{git}"')
        if file.suffix in WEIGHTS:
            self.send_header("X-Linked-Etag", f'"{sha256}"')
            self.send_header("X-Linked-Size", str(size))

    def _content(self, file: Path, revision: str, is_weights: bool) -> None:
        data, asked = file.read_bytes(), self.headers.get("Range", "")
        if is_weights and asked and self.owner.fault_of_weights("no range"):
            asked = ""
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if start >= len(data) > 0:
            self._error(416, "")
            return
        self.send_response(206 if asked else 200)
        self._name(file, revision)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if is_weights:
            self._weights(data, start)
        else:
            self.wfile.write(data)
            self.owner.count(len(data))

    def _weights(self, data: bytes, start: int) -> None:
        """Send from `start` on, with what goes wrong half way through the rest."""
        if self.owner.fault_of_weights("damage"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        middle = start + (len(data) - start) // 2
        for position in range(start, len(data), PIECE):
            if position >= middle:
                if self.owner.fault_of_weights("drop"):
                    self.close_connection = True
                    self.connection.close()
                    return
                if self.owner.fault_of_weights("stall"):
                    self.owner.wait()
                    self.close_connection = True
                    return
            piece = data[position : position + PIECE]
            self.wfile.write(piece)
            self.owner.count(len(piece))
            if self.owner.faults.bytes_per_s:
                time.sleep(PIECE / self.owner.faults.bytes_per_s)

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _row(path: Path, folder: Path) -> dict[str, Any]:
    """Describe a file or folder as the hub's listing does."""
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": "0" * 40}
    size, sha256, git = _facts(path)
    row: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": git, "blobId": git}
    if path.suffix in WEIGHTS:
        row["lfs"] = {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": 134}
    return row
