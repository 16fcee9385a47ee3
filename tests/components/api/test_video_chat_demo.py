"""`/ask_video` over the bundled model: true answers, nobody else's, and bad input told clearly."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from components.widgets.examples import chat_videos
from pipelines.models.catalogue import MODELS
from tests.components.api.test_video import NOT_VIDEOS, moving_disc
from tests.conftest import connect
from tests.fakes.videos import VFR_TIMES, encode
from tests.support.app_process import RunningApp, serve
from tests.support.raw_http import post

ASK = {"api_name": "/ask_video"}
DOES = "What does the circle do?"

Turn = tuple[str, list[dict[str, str]]]


def ask(client: Client, video: Path | str, question: str, history: Any = None, **more: Any) -> Turn:
    answer, messages = client.predict(
        video=handle_file(video), question=question, history=history, **more, **ASK
    )
    return answer, messages


def conversation(client: Client, entry: dict[str, Any]) -> list[str]:
    """Ask the questions of an example one after another, the model's answers in the history."""
    answers: list[str] = []
    history: list[dict[str, str]] | None = None
    for asked in entry["questions"]:
        answer, history = ask(client, entry["path"], asked["question"], history)
        answers.append(answer)
    return answers


def truth(entry: dict[str, Any]) -> list[str]:
    return [asked["answer"] for asked in entry["questions"]]


@pytest.mark.parametrize("entry", chat_videos(), ids=lambda entry: entry["file"])
def test_three_turns_are_answered_rightly(client: Client, entry: dict[str, Any]) -> None:
    assert conversation(client, entry) == truth(entry)


def test_two_visitors_with_different_videos_do_not_cross(running_app: RunningApp) -> None:
    """Each turn of one falls between turns of the other, over the same kept caches."""
    entries = chat_videos()[:2]
    clients = [connect(running_app.url) for _ in range(4)]
    with ThreadPoolExecutor(4) as crowd:
        jobs = [crowd.submit(conversation, own, entries[i % 2]) for i, own in enumerate(clients)]
        for number, job in enumerate(jobs):
            assert job.result(timeout=180) == truth(entries[number % 2])


def test_the_same_history_with_another_video_is_about_that_video(client: Client) -> None:
    first, other = chat_videos()[:2]
    _, history = ask(client, first["path"], first["questions"][0]["question"])
    asked = "What colour is the background?"
    answers = {ask(client, entry["path"], asked, history)[0] for entry in (first, other)}
    assert answers == {"white", "blue"}


@pytest.fixture(scope="module")
def left() -> str:
    """The example in which a red circle moves left."""
    entry = next(e for e in chat_videos() if e["questions"][0]["answer"] == "it moves left")
    return str(entry["path"])


def refusal(client: Client, **arguments: Any) -> str:
    """Return how a request is refused; the next good one is answered."""
    with pytest.raises(AppError) as caught:
        client.predict(**{**arguments, **ASK})
    message = str(caught.value.message)
    assert 20 < len(message) < 500
    for leak in ("Traceback", "Errno", "/", "gradio."):
        assert leak not in message
    assert caught.value.title not in {None, "", "Error", "Internal error"}
    return message


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_what_is_no_video_is_told(client: Client, left: str, tmp_path: Path, name: str) -> None:
    video = NOT_VIDEOS[name](tmp_path / name)
    assert name in refusal(client, video=handle_file(video), question=DOES)
    assert ask(client, left, DOES)[0] == "it moves left"


def test_no_video(client: Client) -> None:
    assert "video is missing" in refusal(client, video=None, question=DOES)


def test_a_path_of_the_server_is_refused(running_app: RunningApp) -> None:
    answer = post(running_app.url, "ask_video", [{"path": "/etc/passwd"}, DOES])
    assert "data" not in answer
    assert "passwd" not in answer["error"] or "/" not in answer["error"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"question": ""}, "question is empty"),
        ({"question": " \n "}, "question is empty"),
        ({"max_frames": 3}, "max_frames must be"),
        ({"max_frames": 100_000}, "max_frames must be"),
        ({"start_s": -1.0}, "0 or more"),
        ({"start_s": 100.0}, "after the end of the video"),
        ({"start_s": 3.0, "end_s": 1.0}, "must come before the end"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"top_p": 2.0}, "top_p must be"),
        ({"history": [{"role": "king", "content": "a"}]}, "history must be a list"),
        ({"history": "before"}, "history must be a list"),
    ],
)
def test_what_cannot_be_is_told(
    client: Client, left: str, arguments: dict[str, Any], told: str
) -> None:
    assert told in refusal(client, video=handle_file(left), **{"question": DOES, **arguments})


@pytest.mark.parametrize("model", ["nope", "demo-clip", "demo-viclip", "../demo-videochat"])
def test_an_unknown_model_lists_the_valid_ones(client: Client, left: str, model: str) -> None:
    with pytest.raises(AppError) as caught:
        ask(client, left, DOES, model=model)
    offered = caught.value.message.partition("Choose one of: ")[2]
    for spec in MODELS:
        assert (spec.key in offered) == (spec.task == "video-chat")


def test_a_model_out_of_reach_names_the_settings(client: Client, left: str) -> None:
    with pytest.raises(AppError) as caught:
        ask(client, left, DOES, model="videochat-flash-2b-448")
    for part in ("videochat-flash-2b-448", "HF_ENDPOINT", "--models-dir"):
        assert part in caught.value.message
    assert ask(client, left, DOES)[0] == "it moves left"


@pytest.mark.parametrize("rotate", [False, True])
def test_a_video_of_another_hand_also_rotated(client: Client, tmp_path: Path, rotate: bool) -> None:
    video = moving_disc(tmp_path / "disc.mp4", rotate=rotate)
    assert ask(client, video, "Which way does the circle move?")[0] == "left"


def test_one_frame_stays_still(client: Client, tmp_path: Path) -> None:
    video = moving_disc(tmp_path / "one.mp4", num=1)
    answer, history = ask(client, video, "What colour is the circle?")
    assert answer == "red"
    assert ask(client, video, "How many objects are there?", history)[0] == "one"


def test_a_variable_frame_rate_is_answered(client: Client, tmp_path: Path) -> None:
    video = encode(tmp_path / "vfr.mp4", "libx264", times=VFR_TIMES, ticks=1000)
    assert ask(client, video, "What colour is the background?")[0]


def test_a_part_is_looked_at_alone(client: Client, left: str) -> None:
    whole, part = (ask(client, left, "Describe the video.", end_s=end)[0] for end in (0.0, 0.4))
    assert "moves left" in whole
    assert part.startswith("a red circle")


@pytest.mark.parametrize("question", ["这个视频里有什么？", "?" * 3, "x " * 3000])
def test_questions_that_it_cannot_read_are_answered_or_told(
    client: Client, left: str, question: str
) -> None:
    try:
        assert ask(client, left, question)[0]
    except AppError as error:
        assert "long" in error.message
    assert ask(client, left, DOES)[0] == "it moves left"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """An app that takes videos of two seconds at most, and models of 5 GB."""
    folder = tmp_path_factory.mktemp("strict")
    with serve(folder, "--max-video-s", "2", "--memory-gb", "5") as app:
        yield connect(app.url)


def test_a_video_over_the_limit_is_told(strict: Client, left: str, tmp_path: Path) -> None:
    told = refusal(strict, video=handle_file(left), question=DOES)
    assert "2" in told
    short = moving_disc(tmp_path / "short.mp4", num=15)
    assert ask(strict, short, "What colour is the circle?")[0] == "red"


def test_a_model_that_does_not_fit_is_told_with_need_and_budget(
    strict: Client, tmp_path: Path
) -> None:
    short = moving_disc(tmp_path / "short.mp4", num=15)
    told = refusal(strict, video=handle_file(short), question=DOES, model="videochat-flash-7b-448")
    assert "33.2 GB" in told or "16.6 GB" in told
    assert "5 GB" in told.replace("5.0 GB", "5 GB")
    assert ask(strict, short, "What colour is the circle?")[0] == "red"
