"""A response over HTTP -> an answer, read piece by piece and within bounds. Torch-free."""

from collections.abc import AsyncIterator, Callable

import httpx

from pipelines.models.remote import stream
from pipelines.models.remote.stream import Chunk, EventLines, Reply

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
            else stream.Garbage()
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
        body = await beginning(response, stream.MAX_BYTES + 1)
        if len(body) > stream.MAX_BYTES:
            raise stream.Garbage
        yield stream.of_whole(body)
        return
    lines = EventLines()
    async for data in response.aiter_bytes():
        for chunk in lines.feed(data):
            yield chunk
    for chunk in lines.end():
        yield chunk
