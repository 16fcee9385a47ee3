"""Parsing of the responses of a chat-completions server."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from pipelines.core.results import Finish

#: Longest line of an event stream, and longest response that is not streamed, in bytes.
MAX_BYTES = 4_000_000

#: Data of the event that ends a stream.
_DONE = b"[DONE]"

Emit = Callable[[str], None]


class InvalidResponse(Exception):
    """The response is not a chat completion."""


class StreamFailure(Exception):
    """The server reports a failure in the middle of an answer; the text is its message."""


@dataclass(frozen=True)
class Chunk:
    """Part of an answer: the added text.

    `finish` is None if the text continues, `prompt_tokens` None if the server does not report it.
    `done` marks the last chunk.
    """

    text: str = ""
    finish: Finish | None = None
    prompt_tokens: int | None = None
    done: bool = False


@dataclass(frozen=True)
class Reply:
    """Complete answer, without white space at its ends.

    `prompt_tokens` is None, `limit_tokens`, the length of the context, 0 if the server does not
    report it. `own_sampling`: the server refused temperature, top_p and seed, and used its own.
    """

    text: str
    finish: Finish
    prompt_tokens: int | None
    limit_tokens: int = 0
    own_sampling: bool = False


async def parse_events(parts: AsyncIterator[bytes]) -> AsyncIterator[Chunk]:
    """Yield the chunks of an event stream, however its bytes are split.

    Raises:
        InvalidResponse: the events are not parts of a chat completion.
        StreamFailure: the server reports a failure.
    """
    async for line in _lines(parts):
        if line.startswith(b"data:"):
            data = line.removeprefix(b"data:").strip()
            if data == _DONE:
                yield Chunk(done=True)
            elif data:
                yield _chunk(_json(data), "delta")


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    line = bytearray()
    async for data in parts:
        line += data
        if b"\n" in data:  # searching the whole line each time would be quadratic
            *complete, line = line.split(b"\n")
            for one in complete:
                yield bytes(one)
        elif len(line) > MAX_BYTES:
            raise InvalidResponse
    yield bytes(line)


def parse_completion(data: bytes) -> Chunk:
    """Return the answer of a server that does not stream.

    Raises:
        InvalidResponse: it is not a chat completion.
        StreamFailure: the server reports a failure.
    """
    chunk = _chunk(_json(data), "message")
    return Chunk(chunk.text, chunk.finish or "end", chunk.prompt_tokens, done=True)


def parse_models(data: bytes) -> list[tuple[str, int]]:
    """Return the names of a server's models and the lengths of their contexts, 0 if unknown.

    The list is empty if the data is not a list of models.
    """
    try:
        listed = _json(data).get("data")
    except InvalidResponse:
        return []
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    return [
        (row["id"], _count(row.get("max_model_len")) or 0)
        for row in rows
        if isinstance(row.get("id"), str) and row["id"]
    ]


def parse_error(data: bytes) -> str:
    """Return the message in the body of an error, "" if there is none."""
    try:
        body = _json(data)
    except InvalidResponse:
        text = data.decode("utf-8", "replace")
        return "" if "<" in text[:200] else text
    return _message(body.get("error", body.get("detail", body.get("message", ""))))


def _message(found: Any) -> str:
    if isinstance(found, dict):
        found = found.get("message", "")
    if isinstance(found, list):  # FastAPI's form
        found = ", ".join(str(one.get("msg", "")) for one in found if isinstance(one, dict))
    return found if isinstance(found, str) else ""


def _chunk(body: dict[str, Any], key: str) -> Chunk:
    """Return the first choice of a completion; its message is under `key`."""
    if body.get("error"):
        raise StreamFailure(_message(body["error"]))
    choices, usage = body.get("choices"), body.get("usage")
    if not isinstance(choices, list):
        raise InvalidResponse
    prompt_tokens = _count(usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    if not choices:  # the last event of a stream holds only the usage
        return Chunk(prompt_tokens=prompt_tokens)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message = choice.get(key)
    if not isinstance(message, dict | None):
        raise InvalidResponse
    reason = choice.get("finish_reason")
    finish: Finish | None = None if not reason else "length" if reason == "length" else "end"
    return Chunk(_text((message or {}).get("content")), finish, prompt_tokens)


def _text(content: Any) -> str:
    """Return the text of a message, which some servers give in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _json(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidResponse from error
    if not isinstance(body, dict):
        raise InvalidResponse
    return body


def _count(value: Any) -> int | None:
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if valid else None


async def read_at_most(response: httpx.Response, limit: int) -> bytes:
    """Return the first `limit` bytes of a body, without waiting for the rest."""
    body = bytearray()
    async for data in response.aiter_bytes():
        body += data
        if len(body) > limit:
            break
    return bytes(body[:limit])


async def read_answer(
    response: httpx.Response, limit: int, sent: list[str], emit: Emit | None
) -> Reply:
    """Return the answer in a response, an event stream or JSON, without white space at its ends.

    It is cut at `limit` characters. `emit` is called with each piece when it arrives, which is then
    appended to `sent`.

    Raises:
        InvalidResponse: it is not a chat completion.
        StreamFailure: the server reports a failure.
        httpx.HTTPError: the connection broke.
    """
    answer, finish, prompt_tokens = _Answer(), None, None
    async for chunk in _chunks(response):
        prompt_tokens = chunk.prompt_tokens if chunk.prompt_tokens is not None else prompt_tokens
        finish = chunk.finish or finish or ("end" if chunk.done else None)
        piece = answer.add(chunk.text)
        if piece and emit is not None:
            sent.append(piece)
            emit(piece)
        if answer.num_chars > limit:
            finish = "length"
            break
        if chunk.done:
            break
    if finish is None and answer.text:
        raise httpx.RemoteProtocolError("the stream ended before the answer")
    if finish is None:
        raise InvalidResponse
    return Reply(answer.text, finish, prompt_tokens)


class _Answer:
    """Growing text that holds back white space until more text follows it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._held: list[str] = []
        self.num_chars = 0

    def add(self, text: str) -> str:
        """Add a piece; return the text that can be shown now."""
        self.num_chars += len(text)
        shown = text if self._pieces else text.lstrip()
        words = shown.rstrip()
        if not words:
            if shown:
                self._held.append(shown)
            return ""
        piece = "".join([*self._held, words])
        self._held = [shown[len(words) :]]
        self._pieces.append(piece)
        return piece

    @property
    def text(self) -> str:
        return "".join(self._pieces)


async def _chunks(response: httpx.Response) -> AsyncIterator[Chunk]:
    if "json" in response.headers.get("content-type", ""):
        body = await read_at_most(response, MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise InvalidResponse
        yield parse_completion(body)
        return
    async for chunk in parse_events(response.aiter_bytes()):
        yield chunk
