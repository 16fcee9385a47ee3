"""Requests of other web sites, and under foreign host names, are refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import handle_file
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from components.server.origins import OriginCheck, host_name, is_loopback
from pipelines.core.settings import Settings, read_settings
from tests.conftest import connect
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import http

LOCAL = [
    "127.0.0.1:7860",
    "127.1.2.3",
    "localhost:7860",
    "localhost.:7860",
    "x.localhost",
    "[::1]:7860",
]
FOREIGN = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.7:7860",
    "",
    "[x",
]


def guarded(settings: Settings) -> TestClient:
    """Return a client of a tiny app behind the check."""

    def answer(request: Any) -> PlainTextResponse:
        response = PlainTextResponse("answered")
        response.set_cookie("token", "1", samesite="none", secure=True)
        return response

    routes = [Route("/", answer, methods=["GET", "POST"])]
    check = Middleware(OriginCheck, settings=settings)
    return TestClient(Starlette(routes=routes, middleware=[check]), base_url="http://localhost")


@pytest.mark.parametrize("host", LOCAL)
def test_loopback_names_are_known(host: str) -> None:
    assert is_loopback(host_name(host))
    assert guarded(Settings()).get("/", headers={"host": host}).text == "answered"


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_refused_on_loopback(host: str) -> None:
    client = guarded(Settings())
    for method in ("GET", "POST"):
        assert client.request(method, "/", headers={"host": host}).status_code == 403


def test_an_open_server_answers_under_any_name_or_those_that_are_allowed() -> None:
    headers = {"host": "app.example"}
    assert guarded(Settings(host="0.0.0.0")).get("/", headers=headers).is_success
    named = Settings(host="0.0.0.0", allowed_hosts=("app.example",))
    assert guarded(named).get("/", headers=headers).is_success
    assert guarded(named).get("/", headers={"host": "127.0.0.1"}).is_success
    refused = guarded(named).get("/", headers={"host": "evil.example"})
    assert refused.status_code == 403
    assert "evil.example" in refused.text
    assert guarded(Settings(allowed_hosts=("*",))).get("/", headers={"host": "x.org"}).is_success
    for address in ("192.168.1.5:7860", "[fd00::1]:7860"):  # of the launch, and of probes
        assert guarded(named).get("/", headers={"host": address}).is_success


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:7860", "localhost:7860", True),
        ("https://app.example", "app.example", True),
        ("https://app.example", "app.example:443", True),
        ("https://APP.example", "app.example", True),
        ("http://localhost:3000", "localhost:7860", False),
        ("http://127.0.0.1:7860", "localhost:7860", False),
        ("https://evil.example", "app.example", False),
        ("https://app.example.evil.example", "app.example", False),
        ("https://evil.app.example", "app.example", False),
        ("null", "app.example", False),
        ("file://", "app.example", False),
        ("https://app.example:x", "app.example", False),
    ],
)
def test_an_origin_is_the_page_itself_or_refused(origin: str, host: str, allowed: bool) -> None:
    client = guarded(Settings(host="0.0.0.0"))
    for method in ("GET", "POST"):
        response = client.request(method, "/", headers={"host": host, "origin": origin})
        assert response.status_code == (200 if allowed else 403)


def test_allowed_origins_and_proxies_pass() -> None:
    client = guarded(Settings(host="0.0.0.0", allowed_origins=("https://friend.example",)))
    assert client.get("/", headers={"origin": "https://friend.example"}).is_success
    assert client.get("/", headers={"origin": "https://other.example"}).status_code == 403
    for forwarded in ("app.example", "app.example, inner.example", "app.example:443"):
        behind = {"origin": "https://app.example", "x-forwarded-host": forwarded}
        assert client.post("/", headers=behind).is_success


def test_a_refused_body_is_read_so_that_its_sender_sees_why() -> None:
    refused = guarded(Settings()).post("/", content=bytes(5_000_000), headers={"host": "x.org"})
    assert refused.status_code == 403
    assert "--allowed-hosts" in refused.json()["detail"]


def test_cookies_stay_on_the_site_except_in_a_frame() -> None:
    own = guarded(Settings(auth="a:b")).get("/").headers["set-cookie"]
    assert "samesite=lax" in own.lower()
    for framed in (
        Settings(host="0.0.0.0", auth="a:b", framed=True),
        Settings(auth="a:b", allowed_origins=("https://portal.example",)),
    ):
        assert "samesite=none" in guarded(framed).get("/").headers["set-cookie"].lower()


def test_a_public_space_is_open_to_other_pages_and_one_with_a_password_is_not() -> None:
    for flags, status in (([], 200), (["--auth", "a:b"], 403)):
        client = guarded(read_settings(flags, {"SPACE_ID": "somebody/seesay"}))
        assert client.get("/", headers={"origin": "https://x.org"}).status_code == status


@pytest.fixture(scope="module")
def signed_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app with a password, as behind a proxy with TLS that keeps Host."""
    flags = ("--auth", "user:secret", "--allowed-hosts", "app.example")
    with serve(tmp_path_factory.mktemp("origins"), *flags) as app:
        yield app


def test_another_site_gets_no_token_of_a_signed_in_visitor(signed_in: RunningApp) -> None:
    url = signed_in.url.rstrip("/")
    given = http.post(f"{url}/login", data={"username": "user", "password": "secret"})
    cookies = given.headers.get_list("set-cookie")
    http.cookies.clear()
    assert cookies
    assert all("samesite=lax" in cookie.lower() for cookie in cookies)
    cookie = "; ".join(one.partition(";")[0] for one in cookies)
    base = {"host": "app.example", "cookie": cookie}
    own = http.get(f"{url}/gradio_api/token", headers={**base, "origin": "https://app.example"})
    assert own.json()["user"] == "user"
    for origin in ("https://evil.example", "https://evil.app.example", "null"):
        headers = {**base, "origin": origin}
        stolen = http.get(f"{url}/gradio_api/token", headers=headers)
        assert stolen.status_code == 403
        assert "access-control-allow-origin" not in stolen.headers
        asked = {**headers, "access-control-request-method": "POST"}
        preflight = http.options(f"{url}/gradio_api/queue/join", headers=asked)
        assert "access-control-allow-origin" not in preflight.headers


ROUTES = [
    "",
    "config",
    "gradio_api/info",
    "gradio_api/upload",
    "gradio_api/queue/join",
    "gradio_api/call/list_models",
    "healthz",
]


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_answers_a_foreign_name_or_page(running_app: RunningApp, route: str) -> None:
    url = f"{running_app.url.rstrip('/')}/{route}"
    for headers in (
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"host": "localhost.", "origin": "https://evil.example"},
    ):
        for method in ("GET", "POST"):
            response = http.request(method, url, headers=headers)
            assert response.status_code == 403, (method, headers)
            assert "access-control-allow-origin" not in response.headers


def test_agents_are_refused_under_a_foreign_name(agents_app: RunningApp) -> None:
    url = f"{agents_app.url.rstrip('/')}/gradio_api/mcp/"
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": client}
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    assert http.post(url, content=text, headers=headers).status_code == 200
    foreign = {**headers, "host": "evil.example"}
    assert http.post(url, content=text, headers=foreign).status_code == 403


@pytest.mark.parametrize("route", ["gradio_api/run", "gradio_api/api", "run", "api"])
def test_no_route_answers_beside_the_queue(running_app: RunningApp, route: str) -> None:
    url = f"{running_app.url.rstrip('/')}/{route}/list_models"
    assert http.post(url, json={"data": []}).status_code in {404, 405}


def test_the_python_client_still_works(running_app: RunningApp, red_circle: Path) -> None:
    client = connect(running_app.url)
    label, _ = client.predict(
        image=handle_file(red_circle), labels="red circle\nblue star", api_name="/classify_image"
    )
    assert label["label"] == "red circle"
