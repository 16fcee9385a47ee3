"""Visits that are over are given up, those that hold something are kept."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import StateHolder
from gradio_client import handle_file

from components.server import sessions
from components.server.sessions import SessionAges, forget, forget_visits
from tests.conftest import connect
from tests.support.app_in_process import wait_until
from tests.support.app_process import serve

NOW = datetime(2026, 1, 1, 12)
AGES = SessionAges()


class Visits(StateHolder):
    """Gradio's visits to a page with a text and a state."""

    def __init__(self) -> None:
        super().__init__()
        with gr.Blocks(analytics_enabled=False) as page:
            self.text = gr.Textbox()
            self.found = gr.State("nothing")
        self.set_blocks(page)
        self.closed: dict[str, datetime] = {}

    def visit(self, name: str, ago_s: float, *, found: str = "", closed: bool = False) -> None:
        session = self[name]
        if found:
            session[self.found._id] = found
        session.is_closed = closed
        if closed:
            self.closed[name] = NOW - timedelta(seconds=ago_s)
        self.time_last_used[name] = NOW - timedelta(seconds=ago_s)

    def forget(self) -> int:
        return forget(self, NOW, self.closed, AGES)


@pytest.fixture
def visits() -> Visits:
    return Visits()


def test_who_holds_nothing_goes_once_unused(visits: Visits) -> None:
    visits.visit("old", AGES.plain)
    visits.visit("left", AGES.plain, closed=True)
    visits.visit("here", AGES.plain - 1)
    assert visits.forget() == 2
    assert list(visits.session_data) == ["here"]
    assert list(visits.time_last_used) == ["here"]
    assert visits.forget() == 0


def test_what_was_found_stays_while_the_page_is_open_and_an_hour(visits: Visits) -> None:
    visits.visit("open", AGES.any - 1, found="a moment")
    visits.visit("just left", AGES.found - 1, found="a moment", closed=True)
    visits.visit("left", AGES.found, found="a moment", closed=True)
    visits.visit("forgotten", AGES.any, found="a moment")
    assert visits.forget() == 2
    assert list(visits.session_data) == ["open", "just left"]
    assert visits["open"][visits.found._id] == "a moment"


def test_a_changed_component_stays_while_the_page_is_open_and_minutes(visits: Visits) -> None:
    def change(name: str) -> None:
        visits[name][visits.text._id] = gr.Textbox(max_lines=3, render=False)

    for name in ("open", "just left", "left"):
        change(name)
    visits.visit("open", AGES.any - 1)
    visits.visit("just left", AGES.left - 1, closed=True)
    visits.visit("left", AGES.left, closed=True)
    assert visits.forget() == 1
    assert list(visits.session_data) == ["open", "just left"]


def test_who_is_being_answered_stays(visits: Visits) -> None:
    visits.visit("asks", AGES.plain)
    queue = visits.blocks._queue
    queue.active_jobs = [None, [SimpleNamespace(session_hash="asks")]]
    assert visits.forget() == 0
    queue.active_jobs = [None, None]
    assert visits.forget() == 1


def test_the_time_counts_from_when_the_page_was_closed(visits: Visits) -> None:
    """Who reads for an hour and then shuts the lid for a minute finds all of it again."""
    visits.visit("reads", AGES.any - 1, found="a moment")
    visits["reads"].is_closed = True
    visits.time_last_used["reads"] = NOW - timedelta(seconds=AGES.any - 1)
    assert visits.forget() == 0
    assert visits.closed == {"reads": NOW}
    visits["reads"].is_closed = False
    visits.time_last_used["reads"] = NOW
    assert visits.forget() == 0
    assert visits.closed == {}


def test_of_too_many_those_go_that_hold_least(visits: Visits) -> None:
    visits.visit("open", 1000, found="a moment")
    visits.visit("closed", 30, found="a moment", closed=True)
    for number in range(5):
        visits.visit(f"plain {number}", number)
    assert forget(visits, NOW, visits.closed, AGES, most=3) == 4
    assert list(visits.session_data) == ["open", "closed", "plain 0"]
    assert forget(visits, NOW, visits.closed, AGES, most=1) == 2
    assert list(visits.session_data) == ["open"]


def test_what_a_state_deletes_is_deleted_with_it(visits: Visits) -> None:
    deleted: list[str] = []
    visits.found.delete_callback = deleted.append
    visits.visit("left", AGES.found, found="a file", closed=True)
    assert visits.forget() == 1
    assert deleted == ["a file"]


def test_it_looks_while_the_server_runs_whatever_happens(
    visits: Visits, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look(holder: StateHolder, now: datetime, closed: dict[str, datetime]) -> int:
        assert holder is visits
        looks.append(len(looks))
        if len(looks) == 1:
            raise ValueError("a fault of one look")
        return 0

    class Server:
        state_holder = visits

    async def run() -> None:
        async with forget_visits(Server()):
            while len(looks) < 3:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        num = len(looks)
        await asyncio.sleep(0.05)
        assert len(looks) == num, "it ends with the server"

    monkeypatch.setattr(sessions, "EVERY_S", 0.01)
    monkeypatch.setattr(sessions, "forget", look)
    asyncio.run(asyncio.wait_for(run(), 30))


#: `python app.py` that gives up visits at once, and prints how many there are.
QUICK = (
    "import sys\n"
    "from components.server import sessions\n"
    "own = sessions.forget\n"
    "def forget(holder, now, closed):\n"
    "    gone = own(holder, now, closed, sessions.SessionAges(plain=0.2, left=0.2))\n"
    "    if gone: print('GONE', gone, 'LEFT', len(holder.session_data), flush=True)\n"
    "sessions.forget, sessions.EVERY_S = forget, 0.1\n"
    "import app\n"
    "app.main(sys.argv[1:])\n"
)


def test_a_script_that_comes_back_is_answered(tmp_path: Path, red_circle: Path) -> None:
    with serve(tmp_path, code=QUICK) as app:
        client = connect(app.url)

        def label() -> str:
            said, _ = client.predict(
                image=handle_file(red_circle), labels="red circle\nblue star",
                api_name="/classify_image",
            )  # fmt: skip
            return str(said["label"])

        def times() -> int:
            return app.log_file.read_text("utf-8").count("LEFT 0")

        for turn in range(2):  # the second time is of a visit that was given up
            assert label() == "red circle"
            wait_until(lambda turn=turn: times() > turn, "the visit is not given up")  # type: ignore[misc]
