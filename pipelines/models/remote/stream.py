"""What a chat-completions server sends back, made sense of piece by piece. Torch-free."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from pipelines.core.results import Finish

#: Longest line of a stream, and longest answer that comes in one piece, in bytes.
MAX_BYTES = 4_000_000

#: Ends a stream.
_DONE = "[DONE]"


class Garbage(Exception):
    """What came is no chat completion."""


class ToldError(Exception):
    """The server says, in the middle of an answer, that it failed."""


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer.

    Attributes:
        text: what it adds.
        finish: why the text ends, where this piece ends it.
        prompt_tokens: tokens that the model read, where the server says so.
        done: whether nothing follows.
    """

    text: str = ""
    finish: Finish | None = None
    prompt_tokens: int | None = None
    done: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        text: all of it, without blanks around it.
        finish: why it ended.
        prompt_tokens: tokens that the model read, None where the server does not say.
        limit_tokens: tokens that it reads at most, 0 where the server does not say.
        own_sampling: whether the server refused temperature, top_p and seed, and took its own.
    """

    text: str
    finish: Finish
    prompt_tokens: int | None
    limit_tokens: int = 0
    own_sampling: bool = False


class EventLines:
    """Cuts the bytes of a stream of events into chunks; keeps what is not whole yet."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Yield the chunks that `data` completes.

        Raises:
            Garbage: it is no stream of chat completions.
            ToldError: the server says that it failed.
        """
        self._rest += data
        if b"\n" not in data:  # looked at once it is whole: looking each time would be quadratic
            if len(self._rest) > MAX_BYTES:
                raise Garbage
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield _of_event(line.removeprefix(b"data:").decode("utf-8", "replace").strip())

    def end(self) -> Iterator[Chunk]:
        """Yield what the last line holds, where the stream ends within it."""
        yield from self.feed(b"\n")


def of_whole(data: bytes) -> Chunk:
    """Return an answer that came in one piece, from a server that does not stream.

    Raises:
        Garbage: it is no chat completion.
        ToldError: it says that the server failed.
    """
    chunk = _of_object(_json(data.decode("utf-8", "replace")), "message")
    return Chunk(chunk.text, chunk.finish or "end", chunk.prompt_tokens, done=True)


def of_models(data: bytes) -> list[tuple[str, int]]:
    """Return the names of a server's models, each with the tokens it reads, 0 if not told.

    An empty list, and whatever is no list of models, gives none.
    """
    try:
        listed = _json(data.decode("utf-8", "replace")).get("data")
    except Garbage:
        return []
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    return [
        (row["id"], _whole(row.get("max_model_len")) or 0)
        for row in rows
        if isinstance(row.get("id"), str) and row["id"]
    ]


def said_in(data: bytes) -> str:
    """Return the server's own words in the body of a refusal, "" where there are none."""
    text = data.decode("utf-8", "replace")
    try:
        body = _json(text)
    except Garbage:
        return "" if "<" in text[:200] else text
    return _message(body.get("error", body.get("detail", body.get("message", ""))))


def _message(found: Any) -> str:
    if isinstance(found, dict):
        found = found.get("message", "")
    if isinstance(found, list):  # as FastAPI refuses
        found = ", ".join(str(one.get("msg", "")) for one in found if isinstance(one, dict))
    return found if isinstance(found, str) else ""


def _of_event(text: str) -> Chunk:
    if text == _DONE:
        return Chunk(done=True)
    return _of_object(_json(text), "delta") if text else Chunk()


def _of_object(body: dict[str, Any], where: str) -> Chunk:
    if body.get("error"):
        raise ToldError(_message(body["error"]))
    choices, usage = body.get("choices"), body.get("usage")
    if not isinstance(choices, list):
        raise Garbage
    prompt = _whole(usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    if not choices:  # the last piece of a stream holds only the usage
        return Chunk(prompt_tokens=prompt)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    said = choice.get(where)
    if not isinstance(said, dict | None):
        raise Garbage
    reason = choice.get("finish_reason")
    finish: Finish | None = None if not reason else "length" if reason == "length" else "end"
    return Chunk(_text((said or {}).get("content")), finish, prompt)


def _text(content: Any) -> str:
    """Return the text of a message, which some servers give in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _json(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Garbage from error
    if not isinstance(body, dict):
        raise Garbage
    return body


def _whole(value: Any) -> int | None:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if right else None


Emit = Callable[[str], None]


async def beginning(response: httpx.Response, most: int) -> bytes:
    """Return the first `most` bytes of a body; the rest is not waited for."""
    body = bytearray()
    async for data in response.aiter_bytes():
        body += data
        if len(body) > most:
            break
    return bytes(body[:most])


async def read_answer(
    response: httpx.Response, limit: int, sent: list[str], emit: Emit | None
) -> Reply:
    """Return the answer that a response holds; blanks at its ends are left out.

    Args:
        response: a stream of events, or JSON in one piece.
        limit: characters after which it is broken off.
        sent: gets what goes to `emit`.
        emit: called with each piece as it comes.

    Raises:
        Garbage: it is no chat completion.
        ToldError: the server says that it failed.
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
    if finish is None:
        raise (
            httpx.RemoteProtocolError("the stream ended before the answer")
            if answer.text
            else Garbage()
        )
    return Reply(answer.text, finish, prompt_tokens)


class _Answer:
    """A text as it grows; blanks are held back until something follows them."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._held: list[str] = []
        self.num_chars = 0

    def add(self, text: str) -> str:
        """Add what has come; return what of it can go out."""
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
        body = await beginning(response, MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            raise Garbage
        yield of_whole(body)
        return
    lines = EventLines()
    async for data in response.aiter_bytes():
        for chunk in lines.feed(data):
            yield chunk
    for chunk in lines.end():
        yield chunk
