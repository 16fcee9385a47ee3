"""The rules of a server for strangers: rate, password, and closing in order."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import handle_file

from components.server.blocks import Page
from components.server.rate_limit import (
    COSTLY,
    MOST_VISITORS,
    AccessRules,
    RequestRefused,
    serve_until_closed,
)
from pipelines.core.settings import read_settings
from tests.conftest import connect
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import http, post, upload

LABELS = "red circle\nblue square"


def test_any_number_is_allowed_unless_told_otherwise() -> None:
    rules = AccessRules()
    for _ in range(1000):
        rules.admit("a", "batched", now=0.0)
    assert rules._asked == {}, "nothing is kept of who asks"


def test_a_visitor_has_so_many_questions_a_minute() -> None:
    rules = AccessRules(2)
    rules.admit("a", "batched", now=0.0)
    rules.admit("a", "device", now=10.0)
    with pytest.raises(RequestRefused, match=r"asked 2 times .* Try again in 40 s\."):
        rules.admit("a", "batched", now=20.0)
    rules.admit("b", "batched", now=20.0)
    rules.admit("a", "lookup", now=20.0)
    rules.admit("a", "batched", now=60.0)
    with pytest.raises(RequestRefused, match="in 10 s"):
        rules.admit("a", "batched", now=60.0)


def test_only_so_many_visitors_are_remembered() -> None:
    rules = AccessRules(1)
    for number in range(MOST_VISITORS + 5):
        rules.admit(str(number), "batch", now=0.0)
    assert len(rules._asked) == MOST_VISITORS
    with pytest.raises(RequestRefused):
        rules.admit(str(MOST_VISITORS), "batch", now=0.0)


def test_who_goes_on_asking_is_not_forgotten_for_newcomers() -> None:
    rules = AccessRules(2)
    for number in range(MOST_VISITORS):
        rules.admit(str(number), "batch", now=0.0)
    rules.admit("0", "batch", now=1.0)
    rules.admit("new", "batch", now=2.0)
    with pytest.raises(RequestRefused):
        rules.admit("0", "batch", now=3.0)


def test_nobody_is_admitted_during_the_shutdown() -> None:
    rules = AccessRules()
    rules.closing.set()
    with pytest.raises(RequestRefused, match="restarted"):
        rules.admit("a", "lookup")


@pytest.mark.parametrize(
    "flags",
    [
        ["--auth", "nobody"],
        ["--auth", ":secret"],
        ["--auth", "user:"],
        ["--requests-per-minute", "-1"],
        ["--idle-minutes", "-1"],
        ["--grace-s", "inf"],
    ],
)
def test_settings_that_cannot_be_are_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings(flags, {})


def test_the_password_comes_from_the_environment() -> None:
    assert read_settings([], {"SEESAY_AUTH": "ann:s:e:c"}).auth == "ann:s:e:c"
    assert read_settings([], {}).auth == ""


@pytest.fixture(scope="module")
def strict_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    flags = ("--requests-per-minute", "3")
    with serve(tmp_path_factory.mktemp("strict"), *flags, SEESAY_AUTH="ann:s:e:c") as app:
        yield app


def test_without_the_password_nothing_is_told(strict_app: RunningApp, red_circle: Path) -> None:
    assert http.get(f"{strict_app.url}/config").status_code == 401
    files = {"files": ("a.png", red_circle.read_bytes())}
    assert http.post(f"{strict_app.url}/gradio_api/upload", files=files).status_code == 401
    call = http.post(f"{strict_app.url}/gradio_api/call/list_models", json={"data": []})
    assert call.status_code == 401
    with pytest.raises(Exception, match=r"(?i)auth|login|credentials"):
        connect(strict_app.url, auth=("ann", "wrong"))


def test_too_many_questions_are_refused(strict_app: RunningApp, red_circle: Path) -> None:
    client = connect(strict_app.url, auth=("ann", "s:e:c"))

    def classify() -> str:
        label, _ = client.predict(
            image=handle_file(red_circle), labels=LABELS, api_name="/classify_image"
        )
        return str(label["label"])

    assert [classify() for _ in range(3)] == ["red circle"] * 3
    with pytest.raises(Exception, match="You have asked 3 times within a minute"):
        classify()
    assert client.predict(api_name="/list_models"), "what asks no model is free"


def test_what_runs_may_end_and_what_is_new_is_refused(tmp_path: Path) -> None:
    """A beam search of seconds is under way when the server is told to end."""
    with serve(tmp_path, "--grace-s", "300", code=SLOW) as app:
        picture = {
            "path": upload(app.url, Path("assets/examples/four-objects.png")),
            "meta": {"_type": "gradio.FileData"},
        }
        asked = [picture, "", "demo-blip2", 40, 1, 0, 1, 0]
        answers: list[dict[str, object]] = []
        running = threading.Thread(
            target=lambda: answers.append(post(app.url, "caption_image", asked))
        )
        running.start()
        wait_for(app, "slow work begins")
        app.process.send_signal(signal.SIGTERM)
        wait_for(app, "waiting up to 300 s for 1 requests")
        refused = post(app.url, "list_models", [])
        assert "restarted" in str(refused["error"])
        running.join(300)
        assert app.process.wait(300) == 0
        assert "Traceback" not in app.log_file.read_text("utf-8")
    assert "square" in json.dumps(answers[0])


def test_the_end_of_grace_ends_what_runs(tmp_path: Path) -> None:
    with serve(tmp_path, "--grace-s", "0", code=SLOW) as app:
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(30) == 0


def test_an_answer_that_is_not_fetched_yet_is_waited_for() -> None:
    """The server ended between the end of the work and the client's next look."""
    with Page(analytics_enabled=False) as page:
        gr.api(lambda: "an answer", api_name="ask")
    page.queue()
    _, url, _ = page.launch(server_port=None, quiet=True, prevent_thread_lock=True)
    call = f"{url}gradio_api/call/ask"
    event = http.post(call, json={"data": []}).json()["event_id"]
    rules = AccessRules()
    rules.closing.set()
    server = threading.Thread(target=serve_until_closed, args=(page, rules, 60.0))
    server.start()
    server.join(1.0)
    assert server.is_alive()
    assert "event: complete" in http.get(f"{call}/{event}").text
    server.join(30)
    assert not server.is_alive()


#: An app whose captions take seconds.
SLOW = """
import logging, sys, time
import app
import pipelines.models.captioning.pipeline as pipeline
def slowly(function):
    def work(*args, **options):
        logging.getLogger("slow").warning("slow work begins")
        time.sleep(4)
        return (yield from function(*args, **options))
    return work
pipeline.CaptionPipeline.stream_caption = slowly(pipeline.CaptionPipeline.stream_caption)
app.main(sys.argv[1:])
"""


def wait_for(app: RunningApp, line: str) -> None:
    end = time.monotonic() + 60
    while line not in app.log_file.read_text("utf-8"):
        assert time.monotonic() < end, app.log_file.read_text("utf-8")
        time.sleep(0.05)


def test_the_costly_queues_are_those_of_the_app() -> None:
    from components.widgets import queues as common

    queues = (common.DEVICE_QUEUE, common.BATCH_QUEUE, common.BATCHED_QUEUE)
    assert {queue["concurrency_id"] for queue in queues} == COSTLY
