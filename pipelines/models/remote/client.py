"""Client of an OpenAI-compatible server: streamed answers, retries, refused options."""

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
from pipelines.models.remote.stream import Emit, Reply, read_answer, read_at_most

log = logging.getLogger(__name__)

#: Time limit in seconds of a connection, and of each part of the list of models.
CONNECT_S = 5.0

#: Time limit in seconds of the whole list of models.
LONGEST_LIST_S = 10.0

#: Most attempts of a request while the server is busy or faulty.
ATTEMPTS = 4

#: Seconds before the second attempt, doubled for each further one, and the longest wait, also of
#: those that a server asks for.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0

#: Time limit in seconds of a whole answer.
LONGEST_ANSWER_S = 1800.0

#: Most characters of an answer for each requested token.
_CHARS_PER_TOKEN = 64

#: Statuses of temporary failures.
_TEMPORARY = frozenset({408, 425, 429, 502, 503, 504})

#: Statuses of servers that refuse options that they do not know.
_OPTIONS = frozenset({400, 422, 500})

#: First step of `request_body` without temperature, top_p and seed.
_FIRST_WITHOUT_SAMPLING = 2

#: Most bytes of an error's body that are read.
_ERROR_BYTES = 64_000


class _StatusError(Exception):
    """A response with another status than 200."""

    def __init__(self, status: int, message: str, wait_s: float | None) -> None:
        super().__init__(status)
        self.status, self.message, self.wait_s = status, message, wait_s


class ChatServer:
    """Client of one server that learns which options it accepts; safe in several threads."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self._step = 0
        self._candidate_step = 0
        self._model: tuple[str, int] | None = (remote.model, 0) if remote.model else None
        self._tls: ssl.SSLContext | None = None

    def client(self) -> httpx.AsyncClient:
        """Return an HTTP client for `async with`; the key is sent to this server only."""
        if self._tls is None:  # takes 50 ms
            self._tls = httpx.create_ssl_context()
        host = urlsplit(self.remote.url).hostname or ""
        is_loopback = host in {"localhost", "::1"} or host.startswith("127.")
        key = {"Authorization": f"Bearer {self.remote.key}"} if self.remote.key else {}
        return httpx.AsyncClient(
            headers={"Accept": "text/event-stream, application/json", **key},
            timeout=httpx.Timeout(self.remote.timeout_s, connect=CONNECT_S, pool=None),
            limits=httpx.Limits(max_connections=None),
            follow_redirects=False,
            verify=self._tls,
            # a proxy of plain HTTP would read the key
            trust_env=self.remote.url.startswith("https:") and not is_loopback,
        )

    async def model(self, client: httpx.AsyncClient) -> tuple[str, int]:
        """Return the model's name and the length of its context in tokens, 0 if unknown.

        The name is "" if the server lists no model; it then chooses one itself.

        Raises:
            ServerError: the server cannot be reached, or refuses the key.
        """
        if self._model is None:
            try:
                status, body = await self._list_models(client)
            except (httpx.ConnectError, httpx.TimeoutException, TimeoutError) as error:
                raise errors.failure(self.remote, errors.UNREACHABLE) from error
            except (httpx.HTTPError, httpx.InvalidURL):
                return "", 0
            if status in {401, 403}:
                raise errors.of_status(self.remote, status, "")
            if status not in {200, 404}:  # it may still be starting
                return "", 0
            listed = stream.parse_models(body) if status == 200 else []
            self._model = listed[0] if listed else ("", 0)
        return self._model

    async def _list_models(self, client: httpx.AsyncClient) -> tuple[int, bytes]:
        url = f"{self.remote.url}/models"
        async with (
            asyncio.timeout(LONGEST_LIST_S),
            client.stream("GET", url, timeout=CONNECT_S) as response,
        ):
            return response.status_code, await read_at_most(response, stream.MAX_BYTES)

    async def ask(
        self,
        client: httpx.AsyncClient,
        messages: Sequence[Message],
        options: GenerationOptions,
        emit: Emit | None = None,
    ) -> Reply:
        """Return the answer; `emit` is called with each piece when it arrives.

        The request is repeated while the server is busy or faulty, unless a piece was emitted
        already, and with fewer options while the server may refuse some of them.

        Raises:
            ServerError: there is no answer; a `RefusedByServer` concerns this request only.
        """
        model, limit_tokens = await self.model(client)
        sent: list[str] = []
        step, attempt, sure = self._step, 1, True
        first: ServerError | None = None
        while True:
            try:
                body = request_body(model, messages, options, step)
                reply = await self._once(client, body, sent, emit)
            except _StatusError as refusal:
                error = self._error(refusal)
                if refusal.status in _OPTIONS and step + 1 < STEPS:
                    first, sure = first or error, sure and refusal.status != 500
                    step += 1
                    if refusal.status == 500 and step > self._step + 1:
                        await asyncio.sleep(_wait_s(step - self._step - 1, None))
                    continue
                too_late = attempt >= ATTEMPTS or (refusal.wait_s or 0.0) > LONGEST_WAIT_S
                if too_late or refusal.status not in _TEMPORARY:
                    raise (first or error) from None
                await asyncio.sleep(_wait_s(attempt, refusal.wait_s))
            except ServerError as error:
                if sent or attempt >= ATTEMPTS or not _is_broken_connection(error):
                    raise
                await asyncio.sleep(_wait_s(attempt, None))
            else:
                # a value out of range is refused like an unknown option, so it teaches nothing
                if step < _FIRST_WITHOUT_SAMPLING or (sure and not options.temperature):
                    self._learn(step, sure)
                return replace(
                    reply, limit_tokens=limit_tokens, own_sampling=step >= _FIRST_WITHOUT_SAMPLING
                )
            attempt += 1

    async def _once(
        self, client: httpx.AsyncClient, body: dict[str, Any], sent: list[str], emit: Emit | None
    ) -> Reply:
        """Send a request once; append what `emit` is called with to `sent`."""
        remote = self.remote
        limit = _CHARS_PER_TOKEN * int(body.get("max_tokens") or body["max_completion_tokens"])
        try:
            async with (
                asyncio.timeout(LONGEST_ANSWER_S),
                client.stream("POST", f"{remote.url}/chat/completions", json=body) as response,
            ):
                if response.status_code != 200:
                    raise await _status_error(response)
                reply = await read_answer(response, limit, sent, emit)
                if not reply.text:
                    raise errors.failure(remote, errors.EMPTY)
                return reply
        except httpx.ReadTimeout as error:
            raise errors.failure(remote, errors.SILENT, seconds=remote.timeout_s) from error
        except (httpx.ConnectError, httpx.TimeoutException) as error:
            raise errors.failure(remote, errors.UNREACHABLE) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise errors.failure(remote, errors.BROKEN_OFF) from error
        except TimeoutError as error:
            minutes = LONGEST_ANSWER_S / 60
            raise errors.failure(remote, errors.TOO_LONG, minutes=minutes) from error
        except stream.InvalidResponse as error:
            raise errors.failure(remote, errors.NO_COMPLETION) from error
        except stream.StreamFailure as error:
            words = errors.quoted(remote, str(error))
            raise errors.failure(remote, errors.FAILED, words=words) from error

    def _error(self, refusal: _StatusError) -> ServerError:
        if refusal.status == 404 and not self.remote.model:
            self._model = None  # the server may have loaded another one
        return errors.of_status(self.remote, refusal.status, refusal.message, refusal.wait_s or 0.0)

    def _learn(self, step: int, sure: bool) -> None:
        """Remember the accepted options; an unsure step must be accepted twice."""
        if step != self._step and (sure or self._candidate_step == step):
            log.info("%s accepts fewer options: step %d", self.remote.name, step)
            self._step = step
        self._candidate_step = step


async def _status_error(response: httpx.Response) -> _StatusError:
    body = await read_at_most(response, _ERROR_BYTES)
    wait_s = _retry_after_s(response.headers.get("retry-after", ""))
    return _StatusError(response.status_code, stream.parse_error(body), wait_s)


def _is_broken_connection(error: ServerError) -> bool:
    cause = error.__cause__
    return isinstance(cause, httpx.HTTPError) and not isinstance(cause, httpx.TimeoutException)


def _retry_after_s(text: str) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None for neither."""
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
    """Return the wait after an attempt: as the server asks, else longer each time."""
    if asked_s is not None:
        return asked_s
    return float(min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)) * random.uniform(0.8, 1.2)
