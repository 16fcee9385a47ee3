"""Links fetched within bounds, from servers that would have them without."""

import asyncio
import gzip
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.core.errors import InputError, MediaError
from pipelines.media.links import MAX_REDIRECTS, FetchLimits, PinnedTransport, fetch, is_public
from tests.fakes.local_server import LocalServer

MAX_BYTES = 100_000
FILE = bytes(range(256)) * 100

#: Far above any answer of a server on this machine.
HANG_S = 30.0


class _Handler(BaseHTTPRequestHandler):
    """Gives what its path asks for."""

    protocol_version = "HTTP/1.1"
    owner: "FileServer"

    def do_GET(self) -> None:
        with self.owner.lock:
            self.owner.asked.append((self.path, self.headers.get("Host", "")))
        kind, _, rest = self.path[1:].partition("/")
        self.close_connection = True
        getattr(self, f"give_{kind}")(rest)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def give_file(self, _: str) -> None:
        self._head(200, Content_Length=str(len(FILE)))
        self.wfile.write(FILE)

    def give_packed(self, kind: str) -> None:
        packed = gzip.compress(FILE)
        self._head(200, Content_Length=str(len(packed)), Content_Encoding=kind)
        self.wfile.write(packed)

    def give_half(self, _: str) -> None:
        packed = gzip.compress(FILE)[:-100]
        self._head(200, Content_Length=str(len(packed)), Content_Encoding="gzip")
        self.wfile.write(packed)

    def give_bomb(self, _: str) -> None:
        packed = gzip.compress(bytes(50_000_000), 9)
        self._head(200, Content_Length=str(len(packed)), Content_Encoding="gzip")
        self.wfile.write(packed)

    def give_endless(self, _: str) -> None:
        self._head(200)
        while not self.owner.closing.is_set():
            self.wfile.write(bytes(60_000))

    def give_large(self, _: str) -> None:
        self._head(200, Content_Length=str(10**12))
        self.owner.closing.wait(HANG_S)

    def give_drips(self, _: str) -> None:
        self._head(200)
        while not self.owner.closing.wait(0.05):
            self.wfile.write(b"x")
            self.wfile.flush()

    def give_slow(self, _: str) -> None:
        """Drip the head."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.owner.closing.wait(0.05):
            self.wfile.write(b"X-More: x\r\n")
            self.wfile.flush()

    def give_nothing(self, _: str) -> None:
        self._head(404, Content_Length="0")

    def give_to(self, link: str) -> None:
        self._head(302, Location=link, Content_Length="0")

    def give_round(self, _: str) -> None:
        self._head(302, Location="/round", Content_Length="0")


class FileServer(LocalServer):
    """Remembers (path, host) of each request."""

    handler = _Handler

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.asked: list[tuple[str, str]] = []


@pytest.fixture
def server() -> Any:
    with FileServer() as running:
        yield running


def get(link: str, file: Path, deadline_s: float = HANG_S, **bounds: Any) -> bytes:
    given = {"max_bytes": MAX_BYTES, "allowed": lambda address: True, **bounds}
    asyncio.run(fetch(link, file, FetchLimits(deadline_s=deadline_s, **given)))
    return file.read_bytes()


@pytest.mark.parametrize("path", ["file/cat.png", "packed/gzip", "packed/x-gzip", "to//file/x"])
def test_a_file_comes_as_it_is(server: FileServer, tmp_path: Path, path: str) -> None:
    assert get(f"{server.url}/{path}", tmp_path / "cat.png") == FILE


@pytest.mark.parametrize("path", ["endless", "large", "bomb"])
def test_a_file_without_bounds_is_refused(server: FileServer, tmp_path: Path, path: str) -> None:
    """Gradio held all of it in memory; and so of 50 kB of gzip that hold 50 MB."""
    file = tmp_path / "cat.png"
    with pytest.raises(MediaError, match="^The file that the link to 'cat.png' .* 0 MB"):
        get(f"{server.url}/{path}", file)
    assert not file.exists() or file.stat().st_size <= MAX_BYTES


def test_a_file_as_large_as_the_limit_is_taken(server: FileServer, tmp_path: Path) -> None:
    for path in ("file", "packed/gzip"):
        assert get(f"{server.url}/{path}", tmp_path / "a", max_bytes=len(FILE)) == FILE
        with pytest.raises(MediaError):
            get(f"{server.url}/{path}", tmp_path / "a", max_bytes=len(FILE) - 1)


@pytest.mark.parametrize("path", ["drips", "slow"])
def test_a_server_that_drips_is_left(server: FileServer, tmp_path: Path, path: str) -> None:
    """It held a place in the queue for ever: each byte began the wait anew."""
    with pytest.raises(InputError, match="did not give its file within 1 s"):
        get(f"{server.url}/{path}", tmp_path / "cat.png", deadline_s=1.0)


def test_a_silent_name_server_is_left(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any, **__: Any) -> list[Any]:
        server.closing.wait(HANG_S)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)

    limits = FetchLimits(max_bytes=1, deadline_s=1.0)

    async def give_up() -> None:
        with pytest.raises(InputError, match="within 1 s"):
            await fetch("http://name.test/a", tmp_path / "a", limits)
        server.closing.set()  # asyncio.run waits for the thread that was left

    asyncio.run(give_up())


@pytest.mark.parametrize(
    "path",
    [
        "round",
        "packed/br",
        "half",
        "to/ftp://x.test/a",
        "to/http://",
        "to/http://127.0.0.1:70000/a",
        f"to/http://127.0.0.1:{'9' * 23}/a",
    ],
)
def test_what_cannot_be_fetched(server: FileServer, tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="^The link to 'cat.png' cannot be fetched"):
        get(f"{server.url}/{path}", tmp_path / "cat.png")
    assert len(server.asked) <= MAX_REDIRECTS + 1


def test_a_refusal_of_the_server_is_told(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="answered with status 404"):
        get(f"{server.url}/nothing", tmp_path / "cat.png")


def refused(link: str, file: Path, allowed: Callable[[str], bool]) -> str:
    with pytest.raises(InputError) as caught:
        get(link, file, allowed=allowed)
    return caught.value.message


def test_a_private_address_is_never_asked_and_told_like_nobody(tmp_path: Path) -> None:
    with FileServer() as public, FileServer("127.0.0.2") as private:
        file = tmp_path / "cat.png"
        said = {
            refused(link, file, lambda address: address == "127.0.0.1")
            for link in (
                f"{private.url}/file",
                f"{private.url}/nothing",
                f"{public.url}/to/{private.url}/file",
                f"{public.url}/to//to/{private.url}/file",
                "http://127.0.0.1:9/file",
                "http://127.0.0.2:9/file",
                "http://no-such-name.test/file",
            )
        }
        assert private.asked == []
        assert len(public.asked) == 3
    assert len(said) == 1


def test_it_connects_to_the_address_that_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that changes its address between check and connection changes nothing."""
    resolve, looked_up = socket.getaddrinfo, []

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "name.test":
            return resolve(host, port, *args, **kwargs)
        looked_up.append(host)
        address = "127.0.0.1" if len(looked_up) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with FileServer() as public, FileServer("127.0.0.2") as private:
        host = f"name.test:{public.url.rpartition(':')[2]}"
        link = f"http://{host}/file"
        allowed = lambda address: address == "127.0.0.1"  # noqa: E731
        assert get(link, tmp_path / "a", allowed=allowed) == FILE
        assert public.asked == [("/file", host)]
        assert "cannot be fetched" in refused(link, tmp_path / "a", allowed)
        assert private.asked == []


@pytest.mark.parametrize(
    ("link", "host"),
    [
        ("https://name.test/a", "name.test"),
        ("https://name.test:8443/a", "name.test:8443"),
        ("https://bücher.test/a", "xn--bcher-kva.test"),
    ],
)
def test_a_server_is_asked_under_its_own_name(
    link: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS would refuse the certificate of a name that is an address."""
    sent: list[httpx.Request] = []

    async def keep(self: Any, request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))
        for address in ("10.0.0.1", "203.0.113.7")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", keep)
    transport = PinnedTransport(lambda address: address != "10.0.0.1")
    asyncio.run(transport.handle_async_request(httpx.Request("GET", link)))
    (request,) = sent
    assert request.url.host == "203.0.113.7"
    assert request.headers["host"] == host
    assert request.extensions["sni_hostname"] == host.partition(":")[0]


@pytest.mark.parametrize(
    ("link", "taken"),
    [
        ("https://huggingface.co/a", True),
        ("https://cdn.hf.co/a", True),
        ("http://huggingface.co/a", False),  # nobody shows a certificate
        ("https://huggingface.co.name.test/a", False),
        ("https://nothf.co/a", False),
    ],
)
def test_inside_of_a_space_the_hub_has_a_private_address(
    link: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(self: Any, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200)

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", keep)
    asked = PinnedTransport(is_public).handle_async_request(httpx.Request("GET", link))
    if taken:
        assert asyncio.run(asked).status_code == 200
        return
    with pytest.raises(httpx.ConnectError):
        asyncio.run(asked)


def test_no_proxy_is_asked(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert get(f"{server.url}/file", tmp_path / "a") == FILE
