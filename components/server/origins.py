"""Middleware that refuses requests of other web sites, and requests under a foreign host name.

A browser sends the cookies of a signed-in visitor, and reaches servers on this machine, for any
web page. Two rules stop such pages. A request that names its origin must come from this app's own
page (the same host and port as in Host) or from an allowed origin. An app that listens on loopback
only answers under a loopback name or address, so that no foreign name can be bound to it.
"""

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from components.server.body_limit import WITHOUT_BODY, answer, discard_rest
from components.server.gradio_internals import restrict_origins
from pipelines.core.messages import Message
from pipelines.core.settings import Settings

#: Stands for every origin, or every host, in a setting.
ANY = "*"

_DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginCheck:
    """ASGI middleware that checks Host and Origin of every request."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app = app
        self._hosts = frozenset(
            one if one == ANY else host_name(one) for one in settings.allowed_hosts
        )
        open_to_all = settings.framed and not settings.auth  # a public Space
        self._origins = frozenset(
            [ANY] if open_to_all else (origin.lower() for origin in settings.allowed_origins)
        )
        self._loopback_only = is_loopback(settings.host)
        # pages of other sites that may use the app, or show it in a frame, need the cookies too
        self._same_site = bool(settings.auth) and not (settings.framed or self._origins)
        restrict_origins(self.allows)
        self._cached_refusal = lru_cache(self._refusal)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        refusal = self._cached_refusal(*_names(Headers(scope=scope)))
        if refusal and scope["type"] == "http":
            if scope["method"] not in WITHOUT_BODY:
                await discard_rest(receive)
            await answer(send, 403, refusal, plain=scope["method"] == "GET")
        elif refusal:
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(scope, receive, _same_site(send) if self._same_site else send)

    def _refusal(self, sent_to: str, forwarded: str, origin: str) -> str:
        """Return why a request is refused, "" if it is not; `sent_to` is its Host header."""
        host = host_name(sent_to)
        if not self._knows(host):
            return Message(
                "This app does not answer under the name {host!r}. Open it as localhost, or start "
                "it with --allowed-hosts {host}.",
                host=host[:100],
            )
        if not self._is_own(sent_to, forwarded, origin):
            return Message(
                "This request comes from another web site, {origin}. If that site may use this "
                "app, start it with --allowed-origins {origin}.",
                origin=origin[:100],
            )
        return ""

    def _knows(self, host: str) -> bool:
        if is_loopback(host) or ANY in self._hosts or host in self._hosts:
            return True
        # no foreign name can be bound to an address: probes and the launch itself use one
        return not self._loopback_only and (not self._hosts or _is_address(host))

    def allows(self, headers: Headers) -> bool:
        """Return whether a request comes from the app's own page, no page, or an allowed one."""
        return self._is_own(*_names(headers))

    def _is_own(self, sent_to: str, forwarded: str, origin: str) -> bool:
        if not origin or ANY in self._origins or origin in self._origins:
            return True
        page = _address(origin)
        scheme = origin.partition(":")[0]
        return page is not None and page in [
            _address(f"{scheme}://{host}") for host in (sent_to, forwarded)
        ]


def _names(headers: Headers) -> tuple[str, str, str]:
    """Return Host, the first X-Forwarded-Host, and Origin, each "" if it is missing.

    A page of another site cannot set the second one: its request would need a preflight.
    """
    forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    return headers.get("host", ""), forwarded, headers.get("origin", "").lower()


def host_name(host: str) -> str:
    """Return the name in a Host header, in lower case, without port, brackets and final dot."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether a name or address always means this machine."""
    name = host.lower().strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


def _address(url: str) -> tuple[str, int] | None:
    """Return host and port of a URL; None for one without a host, such as "null"."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname else None


def _same_site(send: Any) -> Any:
    """Return `send` that keeps the cookies of a sign-in from the requests of other sites."""

    async def restricted(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            cookies = headers.getlist("set-cookie")
            if cookies:
                del headers["set-cookie"]
                for cookie in _lax(cookies):
                    headers.append("set-cookie", cookie)
        await send(message)

    return restricted


def _lax(cookies: Iterable[str]) -> list[str]:
    attributes = ([part.strip() for part in cookie.split(";")] for cookie in cookies)
    return [
        "; ".join([*(part for part in parts if not part.lower().startswith("samesite")),
                   "SameSite=Lax"])
        for parts in attributes
    ]  # fmt: skip
