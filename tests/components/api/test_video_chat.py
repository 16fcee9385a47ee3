"""Questions about videos through the public endpoint, with a tiny model in the real format."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.components.api.test_contract import ASK_VIDEO, parameters_of
from tests.conftest import connect
from tests.fakes.tiny_viclip import SERVE_CODE
from tests.fakes.tiny_videochat import make_bundle
from tests.fakes.videos import encode, sound_only
from tests.support.app_process import RunningApp, serve

ASK: dict[str, Any] = {"api_name": "/ask_video", "max_frames": 16, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    folder = tmp_path_factory.mktemp("videochat-app")
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"))
    code = SERVE_CODE.format(bundle=str(bundle))
    with serve(folder, "--max-upload-mb", "8", code=code) as running:
        yield running


@pytest.fixture(scope="module")
def asker(app: RunningApp) -> Client:
    return connect(app.url)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("videos") / "a.mp4", "libx264")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("videos") / "b.mp4", "libx264", num_frames=60)


def refusal(client: Client, **arguments: Any) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**{**ASK, **arguments})
    return str(caught.value)


def test_the_contract(asker: Client) -> None:
    described = asker.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert parameters_of(described["/ask_video"]) == ASK_VIDEO
    returned = [value["python_type"]["type"] for value in described["/ask_video"]["returns"]]
    assert returned == ["str", "list[dict(str, Any)]"]


def test_an_answer_streams_and_grows(asker: Client, video: Path) -> None:
    long = {**ASK, "max_new_tokens": 60}
    job = asker.submit(video=handle_file(video), question="What is it?", **long)
    answer, history = job.result(timeout=120)
    assert len(answer) > 5
    assert "max_new_tokens" in " ".join(history[-1].pop("notes")), "a text that was cut says so"
    assert history == [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": answer},
    ]
    pieces = [piece for piece, _ in job.outputs()]
    assert len(set(pieces)) > 3
    assert all(after.startswith(before) for before, after in zip(pieces, pieces[1:], strict=False))
    assert pieces[-1] == answer


def test_a_conversation_travels_with_its_requests(
    asker: Client, app: RunningApp, video: Path
) -> None:
    """A second client, as after a restart, goes on where the first one was."""
    first, history = asker.predict(video=handle_file(video), question="What is it?", **ASK)
    again, longer = connect(app.url).predict(
        video=handle_file(video), question="And then?", history=history, **ASK
    )
    notes = history[-1].pop("notes")
    assert notes == longer[-1].pop("notes")
    assert longer[:2] == history
    assert longer[2:] == [
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": again},
    ]
    alone, _ = asker.predict(video=handle_file(video), question="And then?", **ASK)
    assert len({first, again, alone}) == 3, "what was said before counts"


def test_a_part_and_compressing_change_the_answer(asker: Client, video: Path) -> None:
    asked = {"video": handle_file(video), "question": "What is it?", **ASK}
    answers = [
        asker.predict(**asked, **more)[0]
        for more in ({}, {"start_s": 1.0, "end_s": 2.0}, {"compress": True})
    ]
    assert len(set(answers)) == 3


def test_seeds(asker: Client, video: Path) -> None:
    asked = {"video": handle_file(video), "question": "Why?", "temperature": 1.5, **ASK}
    answers = [asker.predict(**asked, seed=seed)[0] for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"question": " "}, "question is empty"),
        ({"max_frames": 2}, "max_frames must be a whole number from 4"),
        ({"start_s": 2.0, "end_s": 1.0}, "start (2 s) must come before the end"),
        ({"start_s": 99.0}, "after the end of the video"),
        ({"start_s": -1.0}, "0 or more"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"model": "gpt"}, "Choose one of: videochat-flash-7b-448"),
        ({"history": [{"role": "king", "content": "a"}]}, "history must be a list"),
        ({"history": [5]}, "history must be a list"),
        ({"history": "before"}, "history must be a list"),
    ],
)
def test_what_cannot_be_is_told(
    asker: Client, video: Path, arguments: dict[str, Any], told: str
) -> None:
    message = refusal(asker, **{"video": handle_file(video), "question": "Why?", **arguments})
    assert told in message
    assert str(video.parent) not in message


@pytest.mark.parametrize("content", [b"hello, this is text", b""])
def test_what_is_no_video_is_told(asker: Client, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    told = refusal(asker, video=handle_file(tmp_path / "a.mp4"), question="Why?")
    assert "a.mp4" in told
    assert "Internal error" not in told


def test_sound_alone_is_told(asker: Client, tmp_path: Path) -> None:
    told = refusal(asker, video=handle_file(sound_only(tmp_path / "a.mp4")), question="Why?")
    assert "Internal error" not in told


def test_a_truncated_video_is_answered_or_told(asker: Client, video: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:3000])
    told = refusal(asker, video=handle_file(tmp_path / "cut.mp4"), question="Why?")
    assert "cut.mp4" in told


def test_one_frame_is_answered(asker: Client, tmp_path: Path) -> None:
    one = encode(tmp_path / "one.mp4", "libx264", num_frames=1)
    assert asker.predict(video=handle_file(one), question="Why?", **ASK)[0]


def test_visitors_at_once(app: RunningApp, asker: Client, video: Path, other: Path) -> None:
    def two_turns(client: Client, file: Path) -> list[str]:
        first, history = client.predict(video=handle_file(file), question="What is it?", **ASK)
        more = {"video": handle_file(file), "question": "Why?", "history": history}
        return [first, client.predict(**more, **ASK)[0]]

    alone = [two_turns(asker, file) for file in (video, other)]
    assert alone[0] != alone[1]

    def visit(number: int) -> list[str]:
        return two_turns(connect(app.url), (video, other)[number % 2])

    with ThreadPoolExecutor(4) as crowd:
        for number, texts in enumerate(crowd.map(visit, range(4), timeout=180)):
            assert texts == alone[number % 2]


def test_a_client_that_stops_frees_the_device(app: RunningApp, video: Path) -> None:
    leaving = connect(app.url)
    job = leaving.submit(
        video=handle_file(video), question="Why?", **{**ASK, "max_new_tokens": 2000}
    )
    end = time.monotonic() + 60
    while not any(text for text, _ in job.outputs()) and time.monotonic() < end:
        time.sleep(0.01)
    job.cancel()
    done = threading.Event()

    def ask() -> None:
        connect(app.url).predict(video=handle_file(video), question="And?", **ASK)
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    assert done.wait(60)
