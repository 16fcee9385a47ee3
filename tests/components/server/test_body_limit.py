"""Bodies of requests: refused in a sentence where they are too large or there is no room."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.formparsers import MultiPartException

from components.server.body_limit import MAX_JSON_BYTES, BodyLimit
from pipelines.core.settings import Settings
from tests.support.app_process import RunningApp
from tests.support.raw_http import http, post

CALL = "/gradio_api/call/embed_texts"
UPLOAD = "/gradio_api/upload"
MCP = "/gradio_api/mcp/"


class Reader:
    """An application that answers with the length of what it reads.

    Attributes:
        read: the lengths of the pieces, as they came.
        failure: with which its reading ended, if it did.
    """

    def __init__(self) -> None:
        self.read: list[int] = []
        self.failure: Exception | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        try:
            while more:
                message = await receive()
                self.read.append(len(message.get("body", b"")))
                more = message.get("more_body", False)
        except MultiPartException as failure:
            self.failure = failure  # and an answer all the same, as Gradio's routes give
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(sum(self.read)).encode()})


def ask(
    folder: Path,
    path: str,
    pieces: list[bytes],
    told: int | None = None,
    max_upload_mb: float = 90.0,
    app: Any = None,
) -> tuple[int, str]:
    """Return the status and the body that a request is answered with."""
    bounded = BodyLimit(app or Reader(), Settings(work_dir=folder, max_upload_mb=max_upload_mb))
    rest, sent = list(pieces), []

    async def receive() -> Any:
        if not rest:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": rest.pop(0), "more_body": bool(rest)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if told is None else [(b"content-length", str(told).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    asyncio.run(bounded(scope, receive, send))
    start, body = sent
    return start["status"], body["body"].decode()


def pieces_of(num_bytes: int) -> list[bytes]:
    return [bytes(1_000_000)] * (num_bytes // 1_000_000) + [bytes(num_bytes % 1_000_000)]


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        (CALL, MAX_JSON_BYTES),
        ("/gradio_api/queue/join", MAX_JSON_BYTES),
        ("/gradio_api/run/embed_texts/", MAX_JSON_BYTES),
        ("/login", MAX_JSON_BYTES),
        (MCP, MAX_JSON_BYTES),
        ("/gradio_api/component_server", 91_000_000),
        ("/gradio_api/component_server/", 91_000_000),
    ],
)
def test_a_body_up_to_the_limit_is_passed_on(tmp_path: Path, path: str, limit: int) -> None:
    assert ask(tmp_path, path, pieces_of(limit)) == (200, str(limit))
    for told in (None, limit + 1, limit):  # a head that lies, too
        reader = Reader()
        status, body = ask(tmp_path, path, pieces_of(limit + 1), told, app=reader)
        assert status == 413
        assert f"more than {limit / 1e6:.0f} MB" in json.loads(body)["detail"]
        assert reader.read == [] if told == limit + 1 else sum(reader.read) <= limit


def test_an_upload_is_bounded_by_the_room_only(tmp_path: Path) -> None:
    assert ask(tmp_path, UPLOAD, pieces_of(2 * MAX_JSON_BYTES))[0] == 200
    status, body = ask(tmp_path, UPLOAD, [b"x"], max_upload_mb=1e12)
    assert status == 507
    assert "less than the largest upload" in body
    assert body.endswith("Try again later, or tell the operator of this server.")
    assert ask(tmp_path, CALL, [b"x"], max_upload_mb=1e12)[0] == 200


def test_an_upload_ends_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    monkeypatch.setattr("components.server.body_limit._ROOM_S", 0.0)
    monkeypatch.setattr(
        "components.server.body_limit.no_uploads_because",
        lambda settings: "The disk is full." if len(reader.read) >= 3 else "",
    )
    status, body = ask(tmp_path, UPLOAD, [b"x"] * 9, app=reader)
    assert (status, body.partition(" Try")[0]) == (507, "The disk is full.")
    assert reader.read == [1, 1, 1]
    assert reader.failure is not None, "Gradio deletes half an upload upon this kind of error"


def test_whether_there_is_room_is_not_asked_for_each_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("components.server.body_limit._ROOM_S", 60.0)
    monkeypatch.setattr(
        "components.server.body_limit.no_uploads_because", lambda settings: asked.append(1) or ""
    )
    assert ask(tmp_path, UPLOAD, [b"x"] * 100)[0] == 200
    assert len(asked) == 1


def test_an_answer_that_has_begun_goes_on(tmp_path: Path) -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["more_body"]:
            continue
        await send({"type": "http.response.body", "body": b"whole"})

    assert ask(tmp_path, CALL, pieces_of(MAX_JSON_BYTES + 1), app=hasty) == (200, "whole")


def test_a_large_request_is_refused_by_the_app(running_app: RunningApp) -> None:
    url = f"{running_app.url.rstrip('/')}{CALL}"
    body = json.dumps({"data": ["x" * MAX_JSON_BYTES, ""]})
    head = {"content-type": "application/json"}
    for content in (body.encode(), iter(pieces_of(MAX_JSON_BYTES + 1))):
        answer = http.post(url, content=content, headers=head)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("The body of this request has more than 32 MB")
    answer = http.post(url, content=body.encode(), headers={**head, "accept-language": "zh-CN"})
    assert answer.json()["detail"].startswith("这个请求的正文超过了 32 MB")
    assert "data" in post(running_app.url, "embed_texts", ["a", ""])


def test_a_length_that_is_told_is_enough(running_app: RunningApp) -> None:
    """Nothing of the body needs to come."""
    where = urlsplit(running_app.url)
    with socket.create_connection((str(where.hostname), where.port or 80), timeout=60) as line:
        head = f"POST {CALL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**12}\r\n\r\n"
        line.sendall(head.encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 413")


def test_no_upload_is_taken_without_room(full_app: RunningApp) -> None:
    url = full_app.url.rstrip("/")
    before = {path for path in full_app.work_dir.rglob("*") if path.is_file()}
    answer = http.post(f"{url}{UPLOAD}", files={"files": ("a.png", bytes(1_000_000))})
    assert answer.status_code == 507
    assert "less than the largest upload" in answer.text
    assert {path for path in full_app.work_dir.rglob("*") if path.is_file()} == before
    assert http.get(f"{url}/healthz").status_code == 503
    assert "data" in post(full_app.url, "embed_texts", ["a", ""])
