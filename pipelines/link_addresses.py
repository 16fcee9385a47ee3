"""Which addresses a link of a visitor may lead to: those of the public internet. Torch-free."""

import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import anyio

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
