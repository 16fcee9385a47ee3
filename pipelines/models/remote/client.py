"""One server asked over HTTP: streamed, asked again where that may help, broken off when told."""

import asyncio
import logging
import random
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

import httpx

from pipelines.core.errors import ServerError
from pipelines.core.options import GenerationOptions
from pipelines.core.remote import Remote
from pipelines.models.remote import errors, stream
from pipelines.models.remote.messages import STEPS, Message, request_body
from pipelines.models.remote.stream import Emit, Reply, beginning, read_answer

log = logging.getLogger(__name__)

#: Seconds that a server has to take a connection, and to list its models.
CONNECT_S = 5.0

#: Longest that a list of models may take from its first to its last byte.
LONGEST_LIST_S = 10.0

#: Times that a request is sent while a server is busy or not well.
ATTEMPTS = 4

#: Seconds before the second attempt, doubled for each further one; and the longest wait, which a
#: server may also ask for.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0

#: Longest that an answer may take from its first to its last word.
LONGEST_ANSWER_S = 1800.0

#: Characters of an answer for each token that was asked for, at most.
_CHARS_PER_TOKEN = 64

#: Statuses that say: not now.
_LATER = frozenset({408, 425, 429, 502, 503, 504})

#: Statuses with which servers refuse options that they do not know.
_OPTIONS = frozenset({400, 422, 500})

#: First step of `request_body` at which the server samples as it likes.
_FIRST_WITHOUT_SAMPLING = 2

#: Bytes of a refusal that are read.
_REFUSAL_BYTES = 64_000


class _Status(Exception):
    """An answer with a status other than 200."""

    def __init__(self, status: int, said: str, wait_s: float | None) -> None:
        super().__init__(status)
        self.status, self.said, self.wait_s = status, said, wait_s


class ChatServer:
    """Asks one server; learns which options it takes. Any number of threads may ask."""

    def __init__(self, remote: Remote) -> None:
        """Remember whom to ask; nobody is asked yet."""
        self.remote = remote
        self._step = 0
        self._hunch = 0
        self._model: tuple[str, int] | None = (remote.model, 0) if remote.model else None
        self._tls: ssl.SSLContext | None = None

    def client(self) -> httpx.AsyncClient:
        """Return a client of this server, to be used with `async with`."""
        if self._tls is None:  # takes 50 ms to make
            self._tls = httpx.create_ssl_context()
        host = urlsplit(self.remote.url).hostname or ""
        key = {"Authorization": f"Bearer {self.remote.key}"} if self.remote.key else {}
        return httpx.AsyncClient(
            headers={"Accept": "text/event-stream, application/json", **key},
            timeout=httpx.Timeout(self.remote.timeout_s, connect=CONNECT_S, pool=None),
            limits=httpx.Limits(max_connections=None),
            follow_redirects=False,
            verify=self._tls,
            # a proxy of plain HTTP would read the key
            trust_env=self.remote.url.startswith("https:") and not _is_here(host),
        )

    async def model(self, client: httpx.AsyncClient) -> tuple[str, int]:
        """Return the model that is asked for, and the tokens that it reads, 0 where not told.

        A server that lists no model chooses itself: the name is "" then.

        Raises:
            ServerError: the server cannot be reached, or does not take the key.
        """
        if self._model is None:
            try:
                status, body = await self._listed(client)
            except (httpx.ConnectError, httpx.TimeoutException, TimeoutError) as error:
                raise errors.unreachable(self.remote) from error
            except (httpx.HTTPError, httpx.InvalidURL):
                return "", 0
            if status in {401, 403}:
                raise errors.of_status(self.remote, status, "")
            if status not in {200, 404}:  # it may be starting
                return "", 0
            listed = stream.of_models(body) if status == 200 else []
            self._model = listed[0] if listed else ("", 0)
        return self._model

    async def _listed(self, client: httpx.AsyncClient) -> tuple[int, bytes]:
        """Return the status and the body of the server's list of models, cut where it is huge."""
        url = f"{self.remote.url}/models"
        async with (
            asyncio.timeout(LONGEST_LIST_S),
            client.stream("GET", url, timeout=CONNECT_S) as answer,
        ):
            return answer.status_code, await beginning(answer, stream.MAX_BYTES)

    async def ask(
        self,
        client: httpx.AsyncClient,
        messages: Sequence[Message],
        options: GenerationOptions,
        emit: Emit | None = None,
    ) -> Reply:
        """Return the answer; its pieces go to `emit` as they come.

        It is sent again while the server is busy or not well, as long as no piece has gone out;
        and with fewer options where those may be what it refuses.

        Raises:
            ServerError: there is no answer; a `Refused` concerns this request only.
        """
        model, limit_tokens = await self.model(client)
        sent: list[str] = []
        step, attempt, sure = self._step, 1, True
        first: ServerError | None = None
        while True:
            try:
                body = request_body(model, messages, options, step)
                reply = await self._once(client, body, sent, emit)
            except _Status as answer:
                error = self._error(answer)
                if answer.status in _OPTIONS and step + 1 < STEPS:
                    first, sure = first or error, sure and answer.status != 500
                    step += 1
                    if answer.status == 500 and step > self._step + 1:
                        await asyncio.sleep(_wait_s(step - self._step - 1, None))
                    continue
                if not self._may_mend(answer, attempt):
                    raise (first or error) from None
                await asyncio.sleep(_wait_s(attempt, answer.wait_s))
            except ServerError as error:
                if sent or attempt >= ATTEMPTS or not isinstance(error.__cause__, httpx.HTTPError):
                    raise
                if isinstance(error.__cause__, httpx.TimeoutException):
                    raise
                await asyncio.sleep(_wait_s(attempt, None))
            else:
                # a value that is too large is refused as one that is not known is
                if step < _FIRST_WITHOUT_SAMPLING or (sure and not options.temperature):
                    self._learn(step, sure)
                return replace(
                    reply, limit_tokens=limit_tokens, own_sampling=step >= _FIRST_WITHOUT_SAMPLING
                )
            attempt += 1

    async def _once(
        self, client: httpx.AsyncClient, body: dict[str, Any], sent: list[str], emit: Emit | None
    ) -> Reply:
        """Send a request once; what goes to `emit` is noted in `sent`."""
        remote = self.remote
        limit = _CHARS_PER_TOKEN * int(body.get("max_tokens") or body["max_completion_tokens"])
        try:
            async with (
                asyncio.timeout(LONGEST_ANSWER_S),
                client.stream("POST", f"{remote.url}/chat/completions", json=body) as response,
            ):
                if response.status_code != 200:
                    raise await _refusal(response)
                reply = await read_answer(response, limit, sent, emit)
                if not reply.text:
                    raise errors.empty(remote)
                return reply
        except httpx.ReadTimeout as error:
            raise errors.silent(remote) from error
        except httpx.ConnectError as error:
            raise errors.unreachable(remote) from error
        except httpx.TimeoutException as error:
            raise errors.unreachable(remote) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.broken_off(remote) from error
        except TimeoutError as error:
            raise errors.too_long(remote, LONGEST_ANSWER_S) from error
        except stream.Garbage as error:
            raise errors.no_completion(remote) from error
        except stream.ToldError as error:
            raise errors.failed(remote, str(error)) from error

    def _error(self, answer: _Status) -> ServerError:
        if answer.status == 404 and not self.remote.model:
            self._model = None  # it may have another one by now
        return errors.of_status(self.remote, answer.status, answer.said, answer.wait_s or 0.0)

    def _may_mend(self, answer: _Status, attempt: int) -> bool:
        """Whether waiting may help, and not for longer than people wait."""
        return (
            answer.status in _LATER
            and attempt < ATTEMPTS
            and (answer.wait_s or 0.0) <= LONGEST_WAIT_S
        )

    def _learn(self, step: int, sure: bool) -> None:
        """Remember which options were taken; what may have been chance counts from twice on."""
        if step == self._step:
            self._hunch = step
        elif sure or self._hunch == step:
            log.info("%s takes fewer options: step %d", self.remote.name, step)
            self._step = step
        else:
            self._hunch = step


async def _refusal(response: httpx.Response) -> _Status:
    body = await beginning(response, _REFUSAL_BYTES)
    wait_s = _asked_wait_s(response.headers.get("retry-after", ""))
    return _Status(response.status_code, stream.said_in(body), wait_s)


def _asked_wait_s(text: str) -> float | None:
    """Return the seconds of a Retry-After, which is a number or a date; None for neither."""
    with suppress(ValueError):
        seconds = float(text)
        return max(0.0, seconds) if isfinite(seconds) else None
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _wait_s(attempt: int, asked_s: float | None) -> float:
    """Return how long to wait after an attempt: as asked, else longer each time."""
    if asked_s is not None:
        return asked_s
    return float(min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)) * random.uniform(0.8, 1.2)


def _is_here(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"
