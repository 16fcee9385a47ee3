"""Captions, answers and conversations through the public endpoints, with the bundled model."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.conftest import connect, draw_circle
from tests.support.app_process import RunningApp

ASK = {"api_name": "/answer_image"}


@pytest.fixture
def blue_circle(tmp_path: Path) -> Path:
    draw_circle("#1c4ed8").save(tmp_path / "blue.png")
    return tmp_path / "blue.png"


def refusal(client: Client, **arguments: Any) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**arguments)
    return str(caught.value)


def test_a_caption_streams_and_grows(client: Client, red_circle: Path) -> None:
    job = client.submit(image=handle_file(red_circle), api_name="/caption_image")
    caption = job.result(timeout=60)
    assert "red circle" in caption
    pieces = job.outputs()
    assert len(pieces) > 2
    assert all(after.startswith(before) for before, after in zip(pieces, pieces[1:], strict=False))
    assert pieces[-1] == caption


def test_a_prompt_is_gone_on_from_and_not_repeated(client: Client, red_circle: Path) -> None:
    image = handle_file(red_circle)
    caption = client.predict(image=image, prompt="a photo of", api_name="/caption_image")
    assert "a photo of" not in caption
    assert "red circle" in caption


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What colour is the circle?", "blue"),
        ("what color is the circle", "blue"),
        ("How many shapes are there?", "one"),
        ("What is the capital of France?", "I don't know"),
    ],
)
def test_questions(client: Client, blue_circle: Path, question: str, answer: str) -> None:
    assert client.predict(image=handle_file(blue_circle), question=question, **ASK) == answer


def test_a_conversation_travels_with_its_requests(
    client: Client, running_app: RunningApp, blue_circle: Path
) -> None:
    """A second client, as after a restart, goes on where the first one was."""
    image = handle_file(blue_circle)
    first, history = client.predict(
        image=image, message="What colour is the circle?", api_name="/chat_image"
    )
    assert history == [
        {"role": "user", "content": "What colour is the circle?"},
        {"role": "assistant", "content": first, "notes": []},
    ]
    second, longer = connect(running_app.url).predict(
        image=image, message="How many shapes?", history=history, api_name="/chat_image"
    )
    assert longer == [
        {"role": "user", "content": "What colour is the circle?"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "How many shapes?"},
        {"role": "assistant", "content": second, "notes": []},
    ]


def test_notes_reach_scripts_and_are_not_read_back(client: Client, blue_circle: Path) -> None:
    ask = {"image": handle_file(blue_circle), "api_name": "/chat_image"}
    answer, history = client.predict(message="这是什么颜色？", max_new_tokens=1, **ask)
    (chinese, cut) = history[-1]["notes"]
    assert "Chinese" in chinese
    assert "max_new_tokens" in cut
    forged = [history[0], {**history[1], "notes": ["of another server", 3]}]
    for back in (history, forged):
        _, longer = client.predict(message="How many shapes are there?", history=back, **ask)
        assert longer[:2] == [{k: m[k] for k in ("role", "content")} for m in history]
        assert longer[-1]["notes"] == []
    job = client.submit(message="How many shapes are there?", **ask)
    job.result(timeout=60)
    assert all("notes" not in said[-1] for _, said in job.outputs()[:-1] if said)
    assert isinstance(client.predict(**{**ask, "api_name": "/caption_image"}), str)


def test_the_same_seed_gives_the_same_text(client: Client, red_circle: Path) -> None:
    drawn = {"temperature": 1.5, "seed": 7, "api_name": "/caption_image"}
    image = handle_file(red_circle)
    assert client.predict(image=image, **drawn) == client.predict(image=image, **drawn)
    texts = {
        client.predict(image=image, **{**drawn, "temperature": 3.0, "seed": seed})
        for seed in range(6)
    }
    assert len(texts) > 1


def test_beams_search(client: Client, red_circle: Path) -> None:
    image = handle_file(red_circle)
    assert "red circle" in client.predict(image=image, num_beams=4, api_name="/caption_image")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"question": "", **ASK}, "question is empty"),
        ({"question": "Which?", "max_new_tokens": 0, **ASK}, "max_new_tokens must be"),
        ({"question": "Which?", "num_beams": 99, **ASK}, "num_beams must be"),
        ({"question": "Which?", "temperature": -1.0, **ASK}, "temperature must be"),
        ({"question": "Which?", "top_p": 0.0, **ASK}, "top_p must be"),
        ({"question": "Which?", "seed": -1, **ASK}, "seed must be"),
        ({"question": "Which?", "model": "gpt", **ASK}, "Choose one of: blip2-opt-2.7b"),
        ({"question": "Which?", "model": "demo-clip", **ASK}, "Choose one of: blip2-opt-2.7b"),
        ({"message": " ", "api_name": "/chat_image"}, "question is empty"),
        ({"message": "a", "history": [{"role": "king"}], "api_name": "/chat_image"}, "history"),
        ({"message": "a", "history": ["b"], "api_name": "/chat_image"}, "history"),
    ],
)
def test_what_cannot_be_is_told(
    client: Client, red_circle: Path, arguments: dict[str, Any], told: str
) -> None:
    message = refusal(client, image=handle_file(red_circle), **arguments)
    assert told in message
    assert "/" not in message.replace("and/or", "")


def test_what_is_no_picture_is_told(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"hello, this is text")
    image = handle_file(tmp_path / "a.png")
    for arguments in (
        {"api_name": "/caption_image"},
        {"question": "Which?", **ASK},
        {"message": "Which?", "api_name": "/chat_image"},
    ):
        assert "not an image that can be read" in refusal(client, image=image, **arguments)


def test_a_question_longer_than_the_model_reads_is_answered(
    client: Client, red_circle: Path
) -> None:
    image = handle_file(red_circle)
    assert client.predict(image=image, question="What colour is it? " * 400, **ASK)


@pytest.mark.parametrize("turns", [3, 8, 20, 200])
def test_a_long_conversation_is_answered_rightly(
    client: Client, red_circle: Path, turns: int
) -> None:
    """From the seventh turn on the model read more than it was taught, and answered nonsense."""
    history = [
        {"role": "user", "content": "what colour is the circle?"},
        {"role": "assistant", "content": "red"},
    ] * turns
    for question, right in (
        ("what shape is it?", "circle"),
        ("how many objects are there?", "one"),
        ("what is the background?", "white"),
    ):
        answer, longer = client.predict(
            image=handle_file(red_circle), message=question, history=history, api_name="/chat_image"
        )
        assert right in answer
        assert len(longer) == 2 * turns + 2


def test_visitors_do_not_mix(running_app: RunningApp, red_circle: Path, blue_circle: Path) -> None:
    def visit(index: int) -> tuple[int, str]:
        client = connect(running_app.url)
        image = handle_file((red_circle, blue_circle)[index % 2])
        answer, _ = client.predict(
            image=image, message="What colour is the circle?", api_name="/chat_image"
        )
        return index, answer

    with ThreadPoolExecutor(8) as crowd:
        for index, answer in crowd.map(visit, range(8), timeout=120):
            assert answer == ("red", "blue")[index % 2]
