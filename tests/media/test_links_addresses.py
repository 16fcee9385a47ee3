"""Addresses that a link may lead to: public ones, in any notation."""

import asyncio
import socket
from typing import Any

import pytest

from pipelines.media.links import is_public, resolve

PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]

NOT_PUBLIC = [
    "127.0.0.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:168.63.129.16",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "3fff::1",
    "2001::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2002:6464:64c8::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "5f00::1",
    "100::1",
    "no address",
    "",
]


def by_the_system(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
    """Look a name of this machine up as the system does, past the guard of all tests."""
    address = "127.0.0.1" if host == "localhost" else socket.gethostbyname(host)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public(address: str) -> None:
    """Gradio let carrier-grade NAT, Azure's agent, site-local, 6to4 and NAT64 through."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0x7f.1", "2130706433", "017700000001", "127.1", "localhost"]
)
def test_a_name_is_judged_by_what_the_system_makes_of_it(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", by_the_system)
    found = asyncio.run(resolve(host, 80))
    assert found
    assert not any(is_public(address) for address in found)
