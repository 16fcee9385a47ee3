"""Who sends many requests keeps nobody from the model for long."""

import asyncio
import threading
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import handle_file

from components.errors import Page
from components.fair_queue import FairLine, FairQueue
from pipelines.fairness import asking
from tests.browser.serve import RunningApp
from tests.components.bundled_app import wait_until
from tests.conftest import connect


class Request:
    def __init__(self, session_hash: str) -> None:
        self.session_hash = session_hash


def test_a_line_of_requests_is_fair() -> None:
    line = FairLine()
    for visitor in "aaab":
        line.append(Request(visitor))  # type: ignore[arg-type]
    assert [request.session_hash for request in line] == ["a", "b", "a", "a"]
    line.remove(line[0])
    assert isinstance(line, FairLine)


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


def test_whoever_asks_once_does_not_wait_for_all_of_a_flood(
    running_app: RunningApp, red_circle: Path
) -> None:
    flood, other = connect(running_app.url), connect(running_app.url)
    ended: list[str] = []

    def caption(client: object, seed: int) -> object:
        return client.submit(  # type: ignore[attr-defined]
            image=handle_file(red_circle), prompt=f"a picture of {seed}", num_beams=5,
            api_name="/caption_image",
        )  # fmt: skip

    caption(other, -1).result()  # type: ignore[attr-defined]  # the model is loaded
    jobs = [caption(flood, seed) for seed in range(90)]

    def note(name: str, job: object) -> None:
        job.result(timeout=120)  # type: ignore[attr-defined]
        ended.append(name)

    threads = [threading.Thread(target=note, args=("flood", job)) for job in jobs]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(ended) >= 3, "the flood is not answered")
    note("other", caption(other, -2))
    place = ended.index("other")
    for thread in threads:
        thread.join(180)
    assert len(ended) == 91
    assert place < 60, "it came before the rest of the flood"


@pytest.mark.parametrize("closed", [True, False])
def test_a_page_that_asks_again_is_not_closed(closed: bool) -> None:
    """Its heartbeat ended while the device slept, and comes back never."""
    seen: list[tuple[bool, str | None]] = []
    with Page(analytics_enabled=False) as page:
        text = gr.Textbox()
        text.submit(lambda said: seen.append((state.is_closed, asking.get())), text)
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
