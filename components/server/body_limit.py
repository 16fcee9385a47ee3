"""Middleware that refuses request bodies above a limit, and uploads while the disk is full."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.formparsers import MultiPartException

from components.server.gradio_internals import COMPONENT_ROUTES, UPLOAD_ROUTE
from components.server.translate import say
from pipelines.core.messages import Message
from pipelines.core.settings import Settings
from pipelines.serving.work_dir import no_uploads_because, with_advice

#: Most bytes of a request in JSON: names of many files, texts, or files of agents in base64.
MAX_JSON_BYTES = 32_000_000

#: Bytes around a file: the headers of a form.
_AROUND_BYTES = 1_000_000

#: Seconds that the answer whether the disk has room is kept.
_ROOM_S = 1.0

#: Seconds for which the rest of a refused body is read and dropped: a client that still sends
#: would see a broken connection in place of the answer.
_DROP_S = 5.0

#: Methods of requests whose body is not read.
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class _Refused(MultiPartException):
    """Ends the reading of a body; Gradio deletes the unfinished upload for this base class."""


@dataclass
class _Progress:
    refusal: tuple[int, str] | None  # status and sentence
    taken: int = 0  # bytes of the body that were received
    more: bool = True  # whether the body is incomplete
    answering: bool = False  # whether the answer has begun


class BodyLimit:
    """ASGI middleware that refuses bodies that are too large, and uploads to a full disk.

    It buffers nothing: bytes are counted and passed on.
    """

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._file_bytes = int(settings.max_upload_mb * 1e6)
        self._no_room, self._asked_at = "", float("-inf")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in WITHOUT_BODY:
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        num_bytes = int(length) if length.isdigit() else 0
        progress = _Progress(refusal=await self._refusal(path, num_bytes))

        async def bounded() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                progress.taken += len(message.get("body", b""))
                progress.more = message.get("more_body", False)
                progress.refusal = progress.refusal or await self._refusal(path, progress.taken)
            if progress.refusal and not progress.answering:
                raise _Refused(progress.refusal[1])
            return message

        async def unless_refused(message: Any) -> None:
            if progress.answering or progress.refusal is None:
                progress.answering = True
                await send(message)

        if progress.refusal is None:
            with suppress(_Refused):
                await self.app(scope, bounded, unless_refused)
        if progress.refusal and not progress.answering:
            if progress.more:
                await discard_rest(receive)
            await answer(send, *progress.refusal, plain=path == UPLOAD_ROUTE)

    async def _refusal(self, path: str, num_bytes: int) -> tuple[int, str] | None:
        """Return the status and message of the refusal of a body, or None.

        So many bytes of it have come, or will.
        """
        if path == UPLOAD_ROUTE or path in COMPONENT_ROUTES:
            full = await self._full()
            if full:
                return 507, with_advice(full)
        if path == UPLOAD_ROUTE:  # Gradio bounds each of its files
            return None
        limit = self._file_bytes + _AROUND_BYTES if path in COMPONENT_ROUTES else MAX_JSON_BYTES
        if num_bytes <= limit:
            return None
        return 413, Message(
            "The body of this request has more than {limit:.0f} MB, which is the limit. "
            "Upload files first and name them in the request, or send less at once.",
            limit=limit / 1e6,
        )

    async def _full(self) -> str:
        """Return why no upload can be taken, "" where one can."""
        if time.monotonic() - self._asked_at >= _ROOM_S:
            self._asked_at = time.monotonic()
            self._no_room = await anyio.to_thread.run_sync(no_uploads_because, self._settings)
        return self._no_room


async def discard_rest(receive: Any) -> None:
    """Read and drop the rest of a body for some seconds, so that its sender sees the answer."""
    with anyio.move_on_after(_DROP_S):
        while (await receive()).get("more_body"):
            continue


async def answer(send: Any, status: int, sentence: str, *, plain: bool) -> None:
    """Answer as Gradio's routes do; its page shows a `plain` answer as it is."""
    said = say(sentence)
    body = said if plain else json.dumps({"detail": said}, ensure_ascii=False)
    kind = b"text/plain; charset=utf-8" if plain else b"application/json"
    head = [
        (b"content-type", kind),
        (b"content-length", str(len(body.encode())).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body.encode()})
