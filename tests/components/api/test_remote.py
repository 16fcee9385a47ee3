"""Remote models through the public endpoints of a running app, beside those of this machine."""

import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pipelines.serving.remote_registry import MOST_VISITORS
from tests.conftest import connect
from tests.fakes.chat_server import PIECES, FakeChatServer
from tests.fakes.videos import encode
from tests.support.app_process import RunningApp, serve

KEY = "sk-very-secret-0123456789"
TEXT = "".join(PIECES)
MODEL = {"model": "fake"}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeChatServer]:
    with FakeChatServer() as server:
        yield server


@pytest.fixture(scope="module")
def app(fake: FakeChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    folder = tmp_path_factory.mktemp("remote-app")
    flags = ("--remote", f"fake={fake.url}")
    with serve(folder, *flags, SEESAY_REMOTE_KEY=KEY) as running:
        yield running


@pytest.fixture
def server(fake: FakeChatServer) -> Iterator[FakeChatServer]:
    """The server as it is at first, before and after each test."""
    fake.asked.clear()
    fake.left.clear()
    yield fake
    fake.faults, fake.slow_s = [], 0.0


@pytest.fixture
def asker(app: RunningApp) -> Client:
    return connect(app.url)


def test_it_is_listed_once(asker: Client) -> None:
    rows = asker.predict(api_name="/list_models")
    (row,) = [row for row in rows if row["family"] == "remote"]
    assert row == {
        "key": "fake",
        "family": "remote",
        "repo": "",
        "revision": "",
        "licence": "set by its server",
        "memory_gb": 0.0,
        "on_disk": False,
        "demo": False,
    }


def test_a_caption_and_an_answer_stream(
    server: FakeChatServer, asker: Client, red_circle: Path
) -> None:
    server.slow_s = 0.2
    image = handle_file(red_circle)
    for arguments in (
        {"api_name": "/caption_image"},
        {"question": "What colour?", "api_name": "/answer_image"},
    ):
        job = asker.submit(image=image, **MODEL, **arguments)
        assert job.result(timeout=60) == TEXT
        so_far = list(dict.fromkeys(job.outputs()))
        assert so_far[-3:] == ["A red", "A red circle", TEXT]
    assert [asked.headers["authorization"] for asked in server.questions] == [f"Bearer {KEY}"] * 2


def test_a_conversation(server: FakeChatServer, asker: Client, red_circle: Path) -> None:
    image, history = handle_file(red_circle), None
    for message in ("What colour?", "What shape?"):
        text, history = asker.predict(
            image=image, message=message, history=history, api_name="/chat_image", **MODEL
        )
    assert [said["content"] for said in history] == ["What colour?", TEXT, "What shape?", TEXT]
    assert len(server.questions[1].body["messages"]) == 3


def test_a_question_about_a_video(server: FakeChatServer, asker: Client, tmp_path: Path) -> None:
    video = handle_file(encode(tmp_path / "a.mp4", "libx264"))
    text, history = asker.predict(
        video=video, question="What happens?", max_frames=8, api_name="/ask_video", **MODEL
    )
    assert (text, len(history)) == (TEXT, 2)
    assert len(server.questions[0].media) == 8


def test_a_batch(server: FakeChatServer, asker: Client, red_circle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    server.faults = ["429 after 1"]
    files = [handle_file(red_circle), handle_file(tmp_path / "broken.png")]
    rows, results = asker.predict(files=files, api_name="/caption_images", **MODEL)
    assert [(row["file"], row["caption"]) for row in rows] == [
        ("red-circle.png", TEXT),
        ("broken.png", ""),
    ]
    with zipfile.ZipFile(results) as archive:
        (line, *_) = archive.read("captions.jsonl").decode().splitlines()
    assert json.loads(line)["caption"] == TEXT
    assert len(server.questions) == 2


def test_a_batch_is_taken_up_where_its_server_failed(
    server: FakeChatServer, asker: Client, tmp_path: Path
) -> None:
    from PIL import Image

    for shade in range(12):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / f"{shade:02}.png")
    batch: dict[str, Any] = {
        "files": [handle_file(path) for path in sorted(tmp_path.glob("*.png"))],
        "resume_key": "a secret of my own",
        "api_name": "/caption_images",
        **MODEL,
    }
    server.faults = [""] * 8 + ["401"] * 99
    with pytest.raises(AppError, match="does not take the key"):
        asker.predict(**batch)
    server.faults = []
    server.asked.clear()
    rows, _ = asker.predict(**batch)
    assert [row["caption"] for row in rows] == [TEXT] * 12
    assert len(server.questions) == 4


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("401", "does not take the key"),
        ("404", "has no such model"),
        ("web page", "no chat completion"),
        ("drop", "broke off"),
    ],
)
def test_errors_name_the_server(
    server: FakeChatServer, asker: Client, red_circle: Path, fault: str, told: str
) -> None:
    server.faults = [fault]
    with pytest.raises(AppError) as caught:
        asker.predict(image=handle_file(red_circle), api_name="/caption_image", **MODEL)
    assert told in str(caught.value)
    assert f"fake ({server.host})" in str(caught.value)
    assert KEY not in str(caught.value)


def test_stop_closes_the_connection_and_keeps_nobody_waiting(
    server: FakeChatServer, app: RunningApp, red_circle: Path
) -> None:
    server.faults = ["silence"]
    image = handle_file(red_circle)
    job = connect(app.url).submit(image=image, api_name="/caption_image", **MODEL)
    for so_far in job:
        if so_far:
            break
    local = connect(app.url).predict(image=image, api_name="/caption_image")
    assert "red circle" in local
    assert not server.left.is_set()
    job.cancel()
    assert server.left.wait(10)


def test_a_slow_server_keeps_nobody_from_the_models_here(red_circle: Path, tmp_path: Path) -> None:
    """All requests for text are let in through one queue; a server that answers none of them
    once filled it."""
    image = handle_file(red_circle)
    with (
        FakeChatServer(faults=["silence at once"] * 99) as silent,
        serve(tmp_path, "--remote", f"fake={silent.url}") as app,
    ):
        crowd, one_more = connect(app.url), connect(app.url)
        jobs = [
            client.submit(image=image, api_name="/caption_image", **MODEL)
            for client in [*[crowd] * MOST_VISITORS, one_more]
        ]
        until = time.monotonic() + 120
        while len(silent.questions) < MOST_VISITORS:
            assert sum(job.done() for job in jobs) <= 1
            assert time.monotonic() < until, "not all questions came"
            time.sleep(0.05)
        while not any(job.done() for job in jobs):
            assert time.monotonic() < until, "nobody was refused"
            time.sleep(0.05)
        (refused,) = (job for job in jobs if job.done())
        with pytest.raises(AppError, match="choose a model of this machine"):
            refused.result()
        assert "red circle" in connect(app.url).predict(image=image, api_name="/caption_image",
                                                        model="demo-blip2")  # fmt: skip
        assert sum(job.done() for job in jobs) == 1


def test_stopping_a_batch_closes_its_connections(
    server: FakeChatServer, app: RunningApp, red_circle: Path
) -> None:
    server.faults = ["silence at once"]
    job = connect(app.url).submit(
        files=[handle_file(red_circle)], api_name="/caption_images", **MODEL
    )
    for _ in job:
        if server.questions:
            break
    job.cancel()
    assert server.left.wait(10)


def test_the_log_holds_no_key_and_nothing_of_a_visitor(
    server: FakeChatServer, app: RunningApp, asker: Client, red_circle: Path
) -> None:
    server.faults = ["echo"] * 4
    with pytest.raises(AppError) as caught:
        asker.predict(
            image=handle_file(red_circle),
            question="where is my uncle",
            api_name="/answer_image",
            **MODEL,
        )
    assert "refused this request" in str(caught.value)
    log = app.log_file.read_text("utf-8")
    assert KEY not in str(caught.value) + log
    assert "uncle" not in log


def test_what_cannot_be_is_told(asker: Client, red_circle: Path) -> None:
    image = handle_file(red_circle)
    with pytest.raises(AppError, match="does not search with beams"):
        asker.predict(image=image, num_beams=4, api_name="/caption_image", **MODEL)
    with pytest.raises(AppError, match="Choose one of: .*demo-blip2, fake"):
        asker.predict(image=image, model="other", api_name="/caption_image")
    with pytest.raises(AppError, match="Unknown model"):
        asker.predict(image=image, labels="a", model="fake", api_name="/classify_image")
