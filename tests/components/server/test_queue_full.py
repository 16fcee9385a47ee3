"""Who comes while as many wait as may is told so in a sentence of ours, whatever asks."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import pytest
from gradio.queueing import Queue
from gradio_client.exceptions import AppError

from benchmarks.bench_visitors import Tally
from components.page import MAX_WAITING
from components.server import queue as full_queue
from components.server.blocks import Page
from tests.conftest import connect
from tests.support.app_in_process import wait_until
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import http, post, press

#: `python app.py` whose queue is full while a file is there.
FULL = """
import sys
from pathlib import Path
import app
from gradio.queueing import Queue
length = Queue.__len__
Queue.__len__ = lambda queue: length(queue) + 1000 * Path({gate!r}).exists()
app.main(sys.argv[1:])
"""

ENGLISH = f"The queue is full: {MAX_WAITING} requests are waiting, which is the limit."


@dataclass(frozen=True)
class FullApp:
    """A running app, and the file while which its queue is full."""

    running: RunningApp
    gate: Path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullApp]:
    folder = tmp_path_factory.mktemp("full")
    gate = folder / "gate"
    with serve(folder, code=FULL.format(gate=str(gate))) as running:
        yield FullApp(running, gate)


@pytest.fixture
def full(app: FullApp) -> Iterator[str]:
    app.gate.touch()
    yield app.running.url
    app.gate.unlink(missing_ok=True)


def test_a_python_script_is_told(app: FullApp, full: str) -> None:
    client = connect(full)
    with pytest.raises(AppError, match=ENGLISH) as caught:
        client.predict(api_name="/list_models")
    assert caught.value.title == "Server busy"
    tally = Tally()
    tally.failed("list_models", caught.value)
    assert tally.refused == 1, "the benchmark of many visitors takes it for what it is"
    app.gate.unlink()
    assert client.predict(api_name="/list_models")


def test_a_raw_request_is_told_in_its_language(full: str) -> None:
    assert post(full, "list_models", [])["error"].startswith(ENGLISH)
    assert post(full, "list_models", [], language="zh-CN")["error"].startswith("队列已满")


def test_an_event_of_the_page_is_told(full: str) -> None:
    output = press(full, "pause", [None], language="zh-CN")
    assert output["error"].startswith("队列已满")
    assert output["title"] == "服务器繁忙"


def test_what_nobody_fetches_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_queue, "REFUSAL_S", 1.0)
    with Page(analytics_enabled=False) as page:
        gr.api(lambda: "an answer", api_name="ask")
    page.queue(max_size=0)
    _, url, _ = page.launch(server_port=None, quiet=True, prevent_thread_lock=True)
    try:
        http.post(f"{url}gradio_api/call/ask", json={"data": []}).raise_for_status()
        assert held(page._queue) == 2, "what is told, and that it is on its way"
        wait_until(lambda: not held(page._queue), "the sentence is kept")
    finally:
        page.close(verbose=False)


def held(queue: Queue) -> int:
    """Return how many visits a queue holds something of."""
    return len(queue.pending_event_ids_session) + len(queue.pending_messages_per_session)


def test_exactly_as_many_wait_as_may() -> None:
    """Each raw request is another visitor's, of whom none has more than half of the room."""
    begun, over = threading.Event(), threading.Event()

    def ask() -> str:
        begun.set()
        assert over.wait(60)
        return "an answer"

    with Page(analytics_enabled=False) as page:
        gr.api(ask, api_name="ask")
    page.queue(max_size=3, default_concurrency_limit=1)
    _, url, _ = page.launch(server_port=None, quiet=True, prevent_thread_lock=True)
    try:
        with ThreadPoolExecutor(4) as crowd:
            answers = [crowd.submit(post, url, "ask", [])]
            assert begun.wait(60)
            answers += [crowd.submit(post, url, "ask", []) for _ in range(3)]
            wait_until(lambda: len(page._queue) == 3, "three do not wait")
            assert post(url, "ask", [])["error"].startswith("The queue is full: 3 requests")
            over.set()
            assert [answer.result(60) for answer in answers] == [{"data": ["an answer"]}] * 4
    finally:
        over.set()
        page.close(verbose=False)
