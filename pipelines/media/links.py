"""The file that a link of a visitor leads to, fetched within bounds. Torch-free."""

import functools
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

import anyio
import httpx

from pipelines.core.errors import InputError, MediaError, PipelineError

#: Says of an address, as text, whether a link may lead there.
Allowed = Callable[[str], bool]

#: What `ipaddress` calls global, in one version of Python or another, and is not public:
#: carrier-grade NAT, which clouds use for themselves; protocol assignments; relays of 6to4;
#: the agent of Azure.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")
)

#: All that is given out of IPv6, without what is kept for documents.
_GIVEN_6, _DOCUMENTS_6 = IPv6Network("2000::/3"), IPv6Network("3fff::/20")

#: IPv6 that is translated to an IPv4 address, which is its last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address, as text, is one of the public internet; False where it is none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        inner = _inside(parsed)
        if inner is None:
            return parsed.is_global and parsed in _GIVEN_6 and parsed not in _DOCUMENTS_6
        parsed = inner
    return (
        parsed.is_global
        and not parsed.is_multicast
        and not parsed.is_reserved
        and not any(parsed in network for network in _NOT_PUBLIC_4)
    )


def _inside(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to, or None."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


async def addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a name, without doubles, in the order in which to try them.

    Given up by whoever cancels, however long the name server is silent.

    Raises:
        OSError, UnicodeError: it has none.
    """
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    limiter = anyio.CapacityLimiter(1)  # of its own: the common one may be full
    found = await anyio.to_thread.run_sync(look_up, limiter=limiter, abandon_on_cancel=True)
    return list(dict.fromkeys(_texts(found)))


def _texts(found: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    for family, _, _, _, where in found:
        if family in {socket.AF_INET, socket.AF_INET6}:
            yield str(where[0])


#: Seconds that a fetch may take in all, names and redirects included.
FETCH_S = 60.0

#: Seconds that one address of a server may take to accept a connection.
CONNECT_S = 5.0

#: The last port that there is.
MOST_PORT = 65535

#: Redirects that are followed.
MOST_REDIRECTS = 5

#: Names that lead to private addresses inside of a Hugging Face Space. Who answers for them there
#: still needs the certificate of the name.
_HUB = ("hf.co", "huggingface.co")

_OF_HUB = tuple(f".{name}" for name in _HUB)

#: Addresses of one name that are tried.
_MOST_ADDRESSES = 3

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Most bytes that are unpacked at once, and about as many are written at once.
_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a fetch may cost, and where it may lead.

    Attributes:
        max_bytes: most bytes of the file, unpacked.
        deadline_s: seconds in all.
        allowed: says of an address whether it may be connected to.
    """

    max_bytes: int
    deadline_s: float = FETCH_S
    allowed: Allowed = is_public


async def fetch(link: str, file: Path, bounds: Bounds) -> None:
    """Write what a link leads to into a file; messages name it as the file is named.

    Every address is checked before it is connected to, after a redirect too; no proxy is asked.

    Args:
        link: of http or https.
        file: on failure part of it may be there.
        bounds: what it may cost.

    Raises:
        InputError: it cannot be fetched; what is not public is told like what is not there.
        MediaError: it is too large.
    """
    try:
        with anyio.fail_after(bounds.deadline_s):
            async with httpx.AsyncClient(
                transport=Pinned(bounds.allowed),
                headers={"Accept-Encoding": "identity"},
                timeout=httpx.Timeout(None, connect=CONNECT_S),
                trust_env=False,
            ) as client:
                await _follow(client, link, file, bounds.max_bytes)
    except TimeoutError as error:
        raise InputError(
            "The link to {name!r} did not give its file within {seconds:.0f} s. Try again "
            "later, or upload the file instead.",
            name=file.name,
            seconds=bounds.deadline_s,
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
    """Ask for a link, and for where it leads on to, and write what comes."""
    url = httpx.URL(link)
    for _ in range(MOST_REDIRECTS + 1):
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
    """Write the body of an answer into a file, unpacked."""
    told = answer.headers.get("content-length", "")
    if told.isdecimal() and int(told) > max_bytes:
        raise _too_large(file.name, max_bytes)
    written, held = 0, bytearray()
    async with await anyio.open_file(file, "wb") as out:
        async for piece in _unpacked(answer, file.name):
            written += len(piece)
            if written > max_bytes:
                raise _too_large(file.name, max_bytes)
            held += piece
            if len(held) >= _PIECE:
                await out.write(held)
                held = bytearray()
        await out.write(held)


def _too_large(name: str, max_bytes: int) -> PipelineError:
    return MediaError(
        "The file that the link to {name!r} leads to has more than {limit:.0f} MB, which is "
        "the limit. Link to a smaller one.",
        name=name,
        limit=max_bytes / 1e6,
    )


async def _unpacked(answer: httpx.Response, name: str) -> AsyncIterator[bytes]:
    """Yield the body in pieces of bounded size; some servers pack it though not asked to."""
    packing = answer.headers.get("content-encoding", "identity").strip().lower()
    if packing not in {"", "identity", "gzip", "x-gzip"}:
        raise _not_fetched(name)
    unpacker = None if packing in {"", "identity"} else zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for data in answer.aiter_raw(_PIECE // 16):
        if unpacker is None:
            yield data
            continue
        for piece in _inflated(unpacker, data):
            yield piece
    if unpacker is not None and not unpacker.eof:
        raise _not_fetched(name)


def _inflated(unpacker: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    while data and not unpacker.eof:
        yield unpacker.decompress(data, _PIECE)
        data = unpacker.unconsumed_tail


class Pinned(httpx.AsyncHTTPTransport):
    """Connects to the very addresses that were checked, under the name that was asked for."""

    def __init__(self, allowed: Allowed) -> None:
        """Connect to addresses that are `allowed`."""
        super().__init__(verify=_tls(), trust_env=False)
        self._allowed = allowed

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address of its host that takes it.

        Raises:
            httpx.HTTPError: there is none, or none that is allowed.
        """
        url = request.url
        if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > MOST_PORT:
            raise httpx.UnsupportedProtocol("no address of http or https", request=request)
        host = url.raw_host.decode("ascii")
        try:
            found = await addresses(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError("no such name", request=request) from error
        problem: httpx.HTTPError = httpx.ConnectError("no public address", request=request)
        of_hub = url.scheme == "https" and (host in _HUB or host.endswith(_OF_HUB))
        allowed = [one for one in found if of_hub or self._allowed(one)]
        for address in allowed[:_MOST_ADDRESSES]:
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # Host among them, as the link has it
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await super().handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                problem = error
        raise problem


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return what all connections share: it takes 50 ms to make."""
    return httpx.create_ssl_context()
