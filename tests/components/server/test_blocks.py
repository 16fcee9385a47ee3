"""Errors on their way to people: shown as they stand, or hidden behind a reference."""

import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import gradio as gr
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from components.server.blocks import Page, _not_offered, show_errors
from pipelines.core.errors import InputError, MemoryLimitError, PipelineError, WeightsError
from tests.conftest import FakeApp

SECRET = "secret of /home/somebody/weights.bin"


@show_errors
def double(number: int, *, fail: BaseException | None = None) -> int:
    """Return twice the number."""
    if fail is not None:
        raise fail
    return 2 * number


@show_errors
def count_to(end: int, fail: BaseException | None = None) -> Iterator[int]:
    """Yield 1 to `end`."""
    yield from range(1, end + 1)
    if fail is not None:
        raise fail


def test_answers_pass_through() -> None:
    assert double(4) == 8
    assert list(count_to(3)) == [1, 2, 3]


def test_names_signatures_and_kinds_stay() -> None:
    """A plain wrapper over a generator once sent the client `<generator object ...>`."""
    assert double.__name__ == "double"
    assert double.__doc__ == "Return twice the number."
    assert list(inspect.signature(double).parameters) == ["number", "fail"]
    assert not inspect.isgeneratorfunction(double)
    assert inspect.isgeneratorfunction(count_to)
    assert list(inspect.signature(count_to).parameters) == ["end", "fail"]


@pytest.mark.parametrize("kind", [InputError, WeightsError, MemoryLimitError, PipelineError])
def test_the_family_is_shown_as_it_stands(kind: type[PipelineError]) -> None:
    for raised in (kind("Give more."), kind("Give more.", title="Not enough")):
        with pytest.raises(gr.Error) as caught:
            double(1, fail=raised)
        assert caught.value.message == "Give more."
        assert caught.value.title == raised.title
        assert caught.value.__cause__ is raised
        assert not caught.value.print_exception


def test_a_stream_keeps_what_came_before_its_error() -> None:
    stream = count_to(2, InputError("No more."))
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(gr.Error, match="No more"):
        next(stream)


def test_closing_a_stream_closes_the_handler() -> None:
    closed = []

    @show_errors
    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    stream = endless()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_a_gradio_error_is_left_alone() -> None:
    error = gr.Error("As it is.")
    with pytest.raises(gr.Error) as caught:
        double(1, fail=error)
    assert caught.value is error


@pytest.mark.parametrize("raised", [RuntimeError(SECRET), KeyError(SECRET), OSError(5, SECRET)])
def test_anything_else_is_logged_and_hidden(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as caught:
        double(1, fail=raised)
    message = caught.value.message
    assert caught.value.title == "Internal error"
    assert "secret" not in message
    assert "/" not in message
    reference = re.search(r"\b[0-9a-f]{8}\b", message)
    assert reference is not None
    assert reference[0] in caplog.text
    assert SECRET in caplog.text


def test_a_picture_that_memory_does_not_suffice_to_look_at_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is wrong is looked up after gradio failed to open it; that may fail as well."""

    def look(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("components.server.uploads.Uploads.check_image", look)
    with Page() as page:
        image = gr.Image()
        gr.on(fn=lambda picture: None, inputs=image)
    (event,) = page.fns.values()
    wrong = anyio.run(page._image_error, event, [{"path": "a.png"}])
    assert "not an image that can be read" in wrong.message


def test_references_differ() -> None:
    messages = set()
    for _ in range(5):
        with pytest.raises(gr.Error) as caught:
            double(1, fail=RuntimeError())
        messages.add(caught.value.message)
    assert len(messages) == 5


def ask(app: FakeApp, picture: Path) -> Any:
    image = handle_file(picture)
    return app.client.predict(image=image, labels="a\nb", api_name="/classify_image")


def test_a_script_gets_no_secret(
    fake_app: FakeApp, red_circle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake_app.pipeline.error = RuntimeError(SECRET)
    with caplog.at_level(logging.ERROR), pytest.raises(AppError) as caught:
        ask(fake_app, red_circle)
    assert caught.value.title == "Internal error"
    reference = re.search(r"\b[0-9a-f]{8}\b", caught.value.message)
    assert reference is not None
    assert reference[0] in caplog.text
    assert "secret" not in str(caught.value)
    fake_app.pipeline.error = None
    assert ask(fake_app, red_circle)[0]["label"] == "a"


def test_a_script_reads_need_and_budget(fake_app: FakeApp, red_circle: Path) -> None:
    text = "clip-vit-l14 needs 2.1 GB but the budget for models is 1.0 GB. Choose a smaller model."
    fake_app.pipeline.error = MemoryLimitError(text)
    with pytest.raises(AppError) as caught:
        ask(fake_app, red_circle)
    assert caught.value.message == text
    assert caught.value.title == "Not enough memory"
    fake_app.pipeline.error = None
    assert ask(fake_app, red_circle)[0]["label"] == "a"


def test_running_out_of_memory_says_what_to_do(fake_app: FakeApp, red_circle: Path) -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        fake_app.pipeline.error = error
        with pytest.raises(AppError) as caught:
            ask(fake_app, red_circle)
        assert caught.value.title == "Not enough memory"
        assert re.search(r"\d GB", caught.value.message)
    fake_app.pipeline.error = None
    assert ask(fake_app, red_circle)[0]["label"] == "a"


def test_every_endpoint_hides_what_is_internal(fake_app: FakeApp, red_circle: Path) -> None:
    fake_app.pipeline.error = RuntimeError(SECRET)
    requests: list[dict[str, Any]] = [
        {"api_name": "/embed_texts", "texts": "a"},
        {"api_name": "/embed_images", "images": [handle_file(red_circle)]},
        {"api_name": "/rank_similarity", "query_text": "a", "candidate_texts": "b"},
    ]
    for request in requests:
        with pytest.raises(AppError) as caught:
            fake_app.client.predict(**request)
        assert caught.value.title == "Internal error"
        assert "secret" not in str(caught.value)


def test_what_reaches_the_model_is_what_was_asked(fake_app: FakeApp, red_circle: Path) -> None:
    image = handle_file(red_circle)
    fake_app.client.predict(
        image=image, labels="b, a, b", templates="photo", api_name="/classify_image"
    )
    path, labels, templates = fake_app.pipeline.asked[-1]
    assert path.read_bytes() == red_circle.read_bytes()
    assert (labels, templates) == (["b", "a"], "photo")
    fake_app.client.predict(
        query_text=" a ", candidate_texts="x\n\ny\nx", api_name="/rank_similarity"
    )
    assert fake_app.pipeline.asked[-1] == ("a", ["x", "y"], [])
    fake_app.client.predict(texts="x\ny\nx", api_name="/embed_texts")
    assert fake_app.pipeline.asked[-1] == (["x", "y", "x"],)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (gr.Dropdown(["a"], render=False), "b", "not in its list"),
        (gr.Radio(["a"], render=False), "b", "not in its list"),
        (gr.Number(minimum=0, render=False), -1, "out of its range"),
    ],
)
def test_what_a_field_does_not_take(field: Any, value: Any, told: str) -> None:
    with pytest.raises(gr.Error) as caught:
        field.preprocess(value)
    assert told in _not_offered(caught.value.message)
