"""Fetching of linked files from public servers, with limits."""

import functools
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import anyio
import httpx

from pipelines.core.errors import InputError, MediaError, PipelineError

#: Predicate on an IP address, as text, that a link may lead to.
Allowed = Callable[[str], bool]

#: Addresses that some versions of `ipaddress` call global but are not public: carrier-grade NAT,
#: protocol assignments, 6to4 relays, the agent of Azure.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")
)

#: Allocated IPv6 addresses, and those for documentation.
_ALLOCATED_6, _DOCUMENTATION_6 = IPv6Network("2000::/3"), IPv6Network("3fff::/20")

#: IPv6 addresses that are translated to the IPv4 address in their last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether a text is an IP address of the public internet."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        inner = _inside(parsed)
        if inner is None:
            return parsed.is_global and parsed in _ALLOCATED_6 and parsed not in _DOCUMENTATION_6
        parsed = inner
    return (
        parsed.is_global
        and not parsed.is_multicast
        and not parsed.is_reserved
        and not any(parsed in network for network in _NOT_PUBLIC_4)
    )


def _inside(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


async def resolve(host: str, port: int) -> list[str]:
    """Return the distinct addresses of a host, in order of preference; can be cancelled.

    Raises:
        OSError, UnicodeError: the host has no address.
    """
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    limiter = anyio.CapacityLimiter(1)  # the shared one may be full
    found = await anyio.to_thread.run_sync(lookup, limiter=limiter, abandon_on_cancel=True)
    families = {socket.AF_INET, socket.AF_INET6}
    return list(dict.fromkeys(str(row[4][0]) for row in found if row[0] in families))


#: Maximum seconds of a fetch, name resolution and redirects included.
FETCH_S = 60.0

#: Maximum seconds of a connection to one address.
CONNECT_S = 5.0

MAX_PORT = 65535
MAX_REDIRECTS = 5

#: Hosts with private addresses within a Hugging Face Space; TLS still verifies their names.
_HUB = ("hf.co", "huggingface.co")

_HUB_DOMAINS = tuple(f".{name}" for name in _HUB)

#: Maximum number of addresses that are tried.
_MAX_ADDRESSES = 3

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Maximum number of bytes that are unpacked at once; writes have about this size.
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """Limits of a fetch: unpacked size, seconds in all, and a predicate on the addresses."""

    max_bytes: int
    deadline_s: float = FETCH_S
    allowed: Allowed = is_public


async def fetch(link: str, file: Path, limits: FetchLimits) -> None:
    """Download an http or https link to a file, which may be incomplete after a failure.

    Every address is checked before a connection, also after a redirect; proxies are not used.
    Messages contain the name of `file`.

    Raises:
        InputError: it cannot be fetched; the message is the same for private addresses.
        MediaError: it is too large.
    """
    try:
        with anyio.fail_after(limits.deadline_s):
            async with httpx.AsyncClient(
                transport=PinnedTransport(limits.allowed),
                headers={"Accept-Encoding": "identity"},
                timeout=httpx.Timeout(None, connect=CONNECT_S),
                trust_env=False,
            ) as client:
                await _follow(client, link, file, limits.max_bytes)
    except TimeoutError as error:
        raise InputError(
            "The link to {name!r} did not give its file within {seconds:.0f} s. Try again "
            "later, or upload the file instead.",
            name=file.name,
            seconds=limits.deadline_s,
            title="Check your link",
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, zlib.error, UnicodeError) as error:
        raise _not_fetched(file.name) from error


def _not_fetched(name: str) -> PipelineError:
    return InputError(
        "The link to {name!r} cannot be fetched. It must lead to a file on a public server "
        "that gives it to everybody. Check the link, or upload the file instead.",
        name=name,
        title="Check your link",
    )


async def _follow(client: httpx.AsyncClient, link: str, file: Path, max_bytes: int) -> None:
    url = httpx.URL(link)
    for _ in range(MAX_REDIRECTS + 1):
        async with client.stream("GET", url) as answer:
            location = answer.headers.get("location")
            if answer.status_code in _REDIRECTS and location:
                url = url.join(location)
                continue
            if answer.status_code != httpx.codes.OK:
                raise InputError(
                    "The server of the link to {name!r} answered with status {status} in "
                    "place of the file. Check the link, or upload the file instead.",
                    name=file.name,
                    status=answer.status_code,
                    title="Check your link",
                )
            await _write(answer, file, max_bytes)
            return
    raise _not_fetched(file.name)


async def _write(answer: httpx.Response, file: Path, max_bytes: int) -> None:
    declared = answer.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(file.name, max_bytes)
    size, buffer = 0, bytearray()
    async with await anyio.open_file(file, "wb") as out:
        async for chunk in _unpacked(answer, file.name):
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(file.name, max_bytes)
            buffer += chunk
            if len(buffer) >= _CHUNK_BYTES:
                await out.write(buffer)
                buffer = bytearray()
        await out.write(buffer)


def _too_large(name: str, max_bytes: int) -> PipelineError:
    return MediaError(
        "The file that the link to {name!r} leads to has more than {limit:.0f} MB, which is "
        "the limit. Link to a smaller one.",
        name=name,
        limit=max_bytes / 1e6,
    )


async def _unpacked(answer: httpx.Response, name: str) -> AsyncIterator[bytes]:
    """Yield the body in chunks of limited size; some servers compress it without a request."""
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise _not_fetched(name)
    unpacker = None if encoding in {"", "identity"} else zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for data in answer.aiter_raw(_CHUNK_BYTES // 16):
        if unpacker is None:
            yield data
            continue
        for chunk in _inflated(unpacker, data):
            yield chunk
    if unpacker is not None and not unpacker.eof:
        raise _not_fetched(name)


def _inflated(unpacker: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    while data and not unpacker.eof:
        yield unpacker.decompress(data, _CHUNK_BYTES)
        data = unpacker.unconsumed_tail


class PinnedTransport(httpx.AsyncHTTPTransport):
    """Transport that connects to checked addresses, with TLS for the requested host."""

    def __init__(self, allowed: Allowed) -> None:
        super().__init__(verify=_tls(), trust_env=False)
        self._allowed = allowed

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first allowed address of its host that accepts a connection.

        Raises:
            httpx.HTTPError: there is no such address.
        """
        url = request.url
        if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > MAX_PORT:
            raise httpx.UnsupportedProtocol("no address of http or https", request=request)
        host = url.raw_host.decode("ascii")
        try:
            found = await resolve(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError("no such name", request=request) from error
        problem: httpx.HTTPError = httpx.ConnectError("no public address", request=request)
        is_hub = url.scheme == "https" and (host in _HUB or host.endswith(_HUB_DOMAINS))
        allowed = [one for one in found if is_hub or self._allowed(one)]
        for address in allowed[:_MAX_ADDRESSES]:
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # with the original Host
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await super().handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                problem = error
        raise problem


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return the shared context, which takes 50 ms to create."""
    return httpx.create_ssl_context()
