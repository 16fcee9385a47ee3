"""A page of another site, in a real browser, can neither read nor use the app."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.support.app_process import RunningApp

#: Names under which a browser reaches this machine.
NAMES = ("127.0.0.1", "localhost", "localhost.", "x.localhost")

#: Requests of a foreign page: what it can read, run, upload, and whether it is signed in.
ATTEMPTS = """async (base) => {
  const ask = async (path, options) => {
    try {
      const answer = await fetch(base + path, options)
      return [answer.status, await answer.text()]
    } catch (error) { return ["unreadable", ""] }
  }
  const json = {method: "POST", headers: {"content-type": "application/json"}}
  const plain = {method: "POST", headers: {"content-type": "text/plain"}}
  const form = new FormData()
  form.append("files", new Blob(["stolen"]), "stolen.txt")
  const body = JSON.stringify({data: []})
  return {
    config: await ask("/config", {}),
    token: await ask("/gradio_api/token", {credentials: "include"}),
    run: await ask("/gradio_api/call/list_models", {...json, body}),
    plain: await ask("/gradio_api/call/list_models", {...plain, body}),
    direct: await ask("/gradio_api/run/list_models", {...json, body}),
    upload: await ask("/gradio_api/upload", {method: "POST", body: form}),
    blind: await ask("/gradio_api/upload", {method: "POST", body: form, mode: "no-cors"}),
  }
}"""


class _Blank(BaseHTTPRequestHandler):
    """Answers every request with an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another site</title>")

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def foreign_page(browser: Browser) -> Iterator[Page]:
    """A page of another origin."""
    server = HTTPServer(("127.0.0.1", 0), _Blank)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_context().new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    yield page
    page.context.close()
    server.shutdown()


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_page_reads_runs_and_uploads_nothing(
    running_app: RunningApp, foreign_page: Page, name: str
) -> None:
    uploads = set(running_app.work_dir.rglob("stolen*"))
    base = f"http://{name}:{urlsplit(running_app.url).port}"
    for what, (status, text) in foreign_page.evaluate(ATTEMPTS, base).items():
        assert status in {"unreadable", 0}, f"{what}: {status} {text[:100]}"
        assert text == ""
    assert set(running_app.work_dir.rglob("stolen*")) == uploads


@pytest.mark.parametrize("name", NAMES)
def test_the_app_s_own_page_works_under_every_name(
    running_app: RunningApp, foreign_page: Page, name: str
) -> None:
    base = f"http://{name}:{urlsplit(running_app.url).port}"
    page = foreign_page.context.new_page()
    page.goto(f"{base}/healthz")
    answers = page.evaluate(ATTEMPTS, base)
    page.close()
    for what in ("config", "run", "upload"):
        assert answers[what][0] == 200, what
    assert answers["direct"][0] == 404
