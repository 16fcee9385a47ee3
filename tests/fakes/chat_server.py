"""A small server of chat completions on this machine, with faults to order."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fakes.local_server import LocalServer

#: What it answers unless told otherwise.
PIECES = ("A red", " circle", " on white.")


@dataclass(frozen=True)
class Asked:
    """One request: its path, its headers with small names, its JSON, when it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def text(self) -> str:
        """All texts of the last message, joined."""
        content = self.body["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return " ".join(part["text"] for part in content if part["type"] == "text")

    @property
    def media(self) -> list[str]:
        """The addresses of all pictures and videos, in order."""
        parts = [
            part
            for message in self.body["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] != "text"
        ]
        return [part[part["type"]]["url"] for part in parts]


@dataclass
class FakeChatServer(LocalServer):
    """Answers every question with the same pieces.

    Attributes:
        models: what `/v1/models` lists; None answers 404.
        pieces: the answer, or what makes it of a request.
        faults: what goes wrong, one for each request to come, in order; "" for nothing. A number
            is a status; "429 after 2" asks for a wait; "drop" breaks the connection in the middle
            of the answer, "close" before it; "garbage" and "web page" are no completions;
            "silence" says nothing after the first piece, "silence at once" nothing at all;
            "blanks" says nothing but blanks after the first piece, without end;
            "error" tells of one in mid-stream; "echo" refuses with all headers repeated;
            "redirect" sends elsewhere; "whole" does not stream; "endless" never ends;
            "endless line" and "endless refusal" send a line and an error without end;
            "silence at the end" keeps the connection open after the last event.
        refuses: options that are refused, with `refusal` as the status.
        usage: whether it says how many tokens it read.
        slow_s: seconds before each piece.
        endless_list: whether `/v1/models` never ends.
        asked: the requests, in order.
        left: set once a client has closed the connection in the middle of an answer.
        most_at_once: most requests that were under way at the same time.
    """

    models: list[str] | None = field(default_factory=lambda: ["fake-vl"])
    pieces: tuple[str, ...] | Callable[[Asked], tuple[str, ...]] = PIECES
    faults: list[str] = field(default_factory=list)
    refuses: frozenset[str] = frozenset()
    refusal: int = 422
    usage: bool = True
    slow_s: float = 0.0
    max_model_len: int | None = None
    endless_list: bool = False
    asked: list[Asked] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.handler = _Handler
        self.at_once = 0

    @property
    def questions(self) -> list[Asked]:
        """The requests for completions."""
        return [one for one in self.asked if one.path.endswith("/chat/completions")]

    def fault(self) -> str:
        with self.lock:
            return self.faults.pop(0) if self.faults else ""


class _Handler(BaseHTTPRequestHandler):
    owner: FakeChatServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._note({})
        if not self.path.endswith("/models") or self.owner.models is None:
            self._json(404, {"detail": "Not Found"})
            return
        if self.owner.endless_list:
            self._endless(200)
            return
        length = self.owner.max_model_len
        more = {"max_model_len": length} if length else {}
        data = [{"id": name, "object": "model", **more} for name in self.owner.models]
        self._json(200, {"object": "list", "data": data})

    def _endless(self, status: int) -> None:
        """Send a JSON body without end."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        try:
            while not self.owner.closing.is_set():
                self.wfile.write(b" " * 100_000)
        except OSError:
            self.owner.left.set()
        self.close_connection = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked, owner = self._note(body), self.owner
        with owner.lock:
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
        try:
            self._answer(asked, owner.fault())
        except OSError:
            owner.left.set()
            self.close_connection = True
        finally:
            with owner.lock:
                owner.at_once -= 1

    def _note(self, body: dict[str, Any]) -> Asked:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, headers, body, time.monotonic())
        self.owner.asked.append(asked)
        return asked

    def _answer(self, asked: Asked, fault: str) -> None:
        owner = self.owner
        if refused := sorted(owner.refuses & set(asked.body)):
            self._json(owner.refusal, {"detail": f"Unexpected fields in the request: {refused}"})
        elif fault[:3].isdigit():
            status, _, wait = fault.partition(" after ")
            self._json(int(status), {"error": {"message": "not now"}}, {"Retry-After": wait})
        elif fault == "echo":
            self._json(400, {"error": {"message": f"bad request with {asked.headers}"}})
        elif fault == "endless refusal":
            self._endless(400)
        elif fault == "redirect":
            self._json(307, {}, {"Location": f"{owner.url}/elsewhere"})
        elif fault == "close":
            self.close_connection = True
            self.connection.close()
        elif fault == "silence at once":
            self._wait_for_the_end()
        elif fault == "web page":
            self._send(200, "text/html", b"<!doctype html><p>Welcome</p>")
        elif fault == "whole":
            message = {"role": "assistant", "content": "".join(self._pieces(asked))}
            self._json(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
        else:
            self._stream(asked, fault)

    def _pieces(self, asked: Asked) -> tuple[str, ...]:
        pieces = self.owner.pieces
        return pieces(asked) if callable(pieces) else pieces

    def _stream(self, asked: Asked, fault: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._data({"choices": [{"delta": {"role": "assistant"}}]})
        for number, piece in enumerate(self._pieces(asked)):
            if self.owner.closing.wait(self.owner.slow_s):
                return
            self._data({"choices": [{"delta": {"content": piece}, "finish_reason": None}]})
            if number == 0 and fault and fault != "silence at the end":
                self._go_wrong(fault)
                return
        end: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        self._data(end)
        if self.owner.usage:
            self._data({"choices": [], "usage": {"prompt_tokens": 321, "completion_tokens": 5}})
        self._chunk(b"data: [DONE]\n\n")
        if fault:
            self._wait_for_the_end()
        self._chunk(b"")

    def _go_wrong(self, fault: str) -> None:
        if fault == "garbage":
            self._chunk(b"data: {this is no JSON\n\n")
        elif fault == "error":
            self._data({"error": {"message": "the engine died"}})
        elif fault == "endless line":
            while not self.owner.closing.is_set():
                self._chunk(b"data: " + b"a" * 100_000)
        elif fault == "silence":
            self._wait_for_the_end()
        elif fault in {"endless", "blanks"}:
            said, pause_s = (" and", 0.02) if fault == "endless" else (" " * 500, 0.001)
            while not self.owner.closing.wait(pause_s):
                self._data({"choices": [{"delta": {"content": said}}]})
        self.close_connection = True  # "drop": the body has no end
        self.connection.close()

    def _wait_for_the_end(self) -> None:
        """Say nothing until the client leaves, or the server is closed."""
        self.connection.settimeout(0.05)
        while not self.owner.closing.is_set():
            try:
                if not self.connection.recv(1):
                    self.owner.left.set()
                    return
            except TimeoutError:
                continue

    def _data(self, body: dict[str, Any]) -> None:
        self._chunk(b": still here\n\ndata: " + json.dumps(body).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers)

    def _send(
        self, status: int, kind: str, data: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
