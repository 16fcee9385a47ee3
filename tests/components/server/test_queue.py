"""Who sends many requests keeps nobody from the model for long."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from components.server.blocks import Page
from components.server.queue import FairLine, FairQueue
from components.widgets.queues import DEVICE_QUEUE
from pipelines.core.cancel import NEVER
from pipelines.core.visitor import current_visitor
from tests.conftest import connect
from tests.support.app_in_process import bundled_app, wait_until


class Request:
    """Stands for an event of Gradio's."""

    request = None
    batch = False

    def __init__(self, session_hash: str, concurrency_id: str = "") -> None:
        self.session_hash = session_hash
        self.concurrency_id = concurrency_id
        self.fn = self


def test_a_line_of_requests_is_fair() -> None:
    line = FairLine()
    for visitor in "aaab":
        line.append(Request(visitor))  # type: ignore[arg-type]
    assert [request.session_hash for request in line] == ["a", "b", "a", "a"]
    assert line.newest == 1


def test_agents_are_each_a_visitor() -> None:
    """Gradio's MCP server has one client, and so one visit, for all of them."""
    line = FairLine()
    for number in range(3):
        agent = Request("all agents")
        agent.request = SimpleNamespace(headers={"x-gradio-user": "mcp"})  # type: ignore[assignment]
        agent._id = str(number)  # type: ignore[attr-defined]
        line.append(agent)  # type: ignore[arg-type]
    line.append(Request("page"))  # type: ignore[arg-type]
    assert [request.session_hash for request in line] == ["all agents"] * 3 + ["page"]


def test_settings_stay() -> None:
    with Page(analytics_enabled=False) as page:
        text = gr.Textbox()
        text.submit(len, text, text, concurrency_limit=3, concurrency_id="some")
    page.queue(max_size=7, default_concurrency_limit=5)
    queue = page._queue
    assert isinstance(queue, FairQueue)
    assert (queue.max_size, queue.default_concurrency_limit) == (7, 5)
    (function,) = page.fns.values()
    queue.create_event_queue_for_fn(function)
    place = queue.event_queue_per_concurrency_id["some"]
    assert place.concurrency_limit == 3
    assert isinstance(place.queue, FairLine)
    queue.create_event_queue_for_fn(function)
    assert queue.event_queue_per_concurrency_id["some"] is place


def fair_queue(limit: int) -> FairQueue:
    with Page(analytics_enabled=False) as page:
        text = gr.Textbox()
        text.submit(len, text, text, concurrency_limit=limit, concurrency_id="some")
    page.queue(max_size=100)
    queue = page._queue
    assert isinstance(queue, FairQueue)
    queue.create_event_queue_for_fn(page.fns[0])
    return queue


def test_one_visitor_has_at_most_half_of_the_places() -> None:
    """Runs of hours took all of them: who came then waited for the end of one."""
    queue = fair_queue(4)
    kind = queue.event_queue_per_concurrency_id["some"]
    for visitor in "aaaaaab":
        kind.queue.append(Request(visitor, "some"))  # type: ignore[arg-type]
    queue.active_jobs = [None] * 8
    begun = []
    while (found := queue.get_events()) is not None:
        queue.active_jobs[len(begun)] = found[0]
        kind.current_concurrency += 1
        begun.append(found[0][0].session_hash)
    assert begun == ["a", "b", "a"]
    queue.active_jobs[0] = None
    kind.current_concurrency -= 1
    again = queue.get_events()
    assert again is not None and again[0][0].session_hash == "a"


def test_a_visit_that_is_remembered_no_more_stops_nothing() -> None:
    """Gradio's queue ended for good where it had forgotten somebody who waited."""
    queue = fair_queue(1)
    kind = queue.event_queue_per_concurrency_id["some"]
    event = Request("gone", "some")
    event.alive = True  # type: ignore[attr-defined]
    kind.queue.append(event)  # type: ignore[arg-type]
    queue.broadcast_estimations("some")
    assert "gone" not in queue.pending_messages_per_session


def test_whoever_asks_once_does_not_wait_for_all_of_a_flood(
    tmp_path: Path, red_circle: Path
) -> None:
    ended: list[str] = []

    def ask(client: Any, name: str) -> Any:
        job = client.submit(
            image=handle_file(red_circle), question="What is it?", api_name="/answer_image"
        )
        job.add_done_callback(lambda done: ended.append(name if not done.exception() else "lost"))
        return job

    with bundled_app(tmp_path / "cache") as app:
        flood = connect(app.url, max_workers=100)
        other, queue = connect(app.url), app.page._queue
        num = DEVICE_QUEUE["concurrency_limit"] // 2 + 6  # one visitor has half of the places
        with app.store.queue.alone(NEVER):  # nobody is answered meanwhile
            jobs = [ask(flood, "flood") for _ in range(num)]
            wait_until(lambda: len(queue) == 6, "half of the places are not taken")
            jobs.append(ask(other, "other"))
            wait_until(lambda: len(app.store.queue._alone) == num - 4, "it is not let in")
        for job in jobs:
            job.result(timeout=120)
    assert len(ended) == num + 1 and "lost" not in ended
    # one that is answered already and one that was first in the line may come before it, and
    # those of the flood that end while its own place at the model is taken
    assert ended.index("other") < 10


def test_one_visitor_leaves_half_of_the_room(tmp_path: Path, red_circle: Path) -> None:
    def ask(client: Client) -> Any:
        image = handle_file(red_circle)
        return client.submit(image=image, question="What is it?", api_name="/answer_image")

    with bundled_app(tmp_path / "cache") as app:
        queue = app.page._queue
        many = connect(app.url, max_workers=100)
        num = DEVICE_QUEUE["concurrency_limit"] // 2
        with app.store.queue.alone(NEVER):
            jobs = [ask(many) for _ in range(num)]
            wait_until(lambda: app.num_running() == num, "the places are not full")
            queue.max_size = 6
            jobs += [ask(many) for _ in range(3)]
            wait_until(lambda: len(queue) == 3, "three do not wait")
            with pytest.raises(AppError, match="full for you: 3 of your requests"):
                ask(many).result(timeout=60)
            jobs.append(ask(connect(app.url)))
            wait_until(lambda: app.num_running() == num + 1, "another visitor is not let in")
        assert all(job.result(timeout=120) for job in jobs)


@pytest.mark.parametrize("closed", [True, False])
def test_a_page_that_asks_again_is_not_closed(closed: bool) -> None:
    """Its heartbeat ended while the device slept, and comes back never."""
    seen: list[tuple[bool, str | None]] = []
    with Page(analytics_enabled=False) as page:
        text = gr.Textbox()
        text.submit(lambda said: seen.append((state.is_closed, current_visitor.get())), text)
    page.queue()
    holder = page.app.state_holder
    holder.set_blocks(page)
    state = holder["a page"]
    state.is_closed = closed

    async def ask() -> None:
        request = gr.Request(username=None, session_hash="a page")
        await page.process_api(0, ["said"], state, request)

    asyncio.run(ask())
    assert seen == [(False, "a page")]
