"""The strip of frames of an answer: it comes with the first look, and again at the end."""

import shutil
from collections.abc import Iterator

import gradio as gr
import pytest

from components import video_chat_run
from tests.browser.serve import ROOT
from tests.components.bundled_app import BundledApp, bundled_app

VIDEO = ROOT / "assets" / "examples" / "circle-moves-left.mp4"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundledApp]:
    with bundled_app(tmp_path_factory.mktemp("cache")) as running:
        yield running


def test_the_strip_comes_again_at_the_end(app: BundledApp) -> None:
    event = next(
        event
        for event in app.page.fns.values()
        if event.fn is not None
        and (event.fn.__name__, event.fn.__module__) == ("answer", video_chat_run.__name__)
    )
    film = len(event.outputs) - 2
    assert isinstance(event.outputs[film], gr.HTML)
    video = shutil.copy(VIDEO, app.store.settings.work_dir / "asked.mp4")
    values = {one: getattr(one, "value", None) for one in event.inputs}
    for one in values:
        if isinstance(one, gr.Video):
            values[one] = str(video)
        elif isinstance(one, gr.Chatbot):
            values[one] = [{"role": "user", "content": "What happens?"}]
    steps = list(event.fn(values))
    shown = [
        number
        for number, step in enumerate(steps)
        if isinstance(step[film], dict) and "<div class='film'>" in str(step[film].get("value"))
    ]
    assert len(shown) == 2
    assert shown[1] == len(steps) - 1, "with the end of the answer"
    first, last = (steps[number] for number in shown)
    assert first[film:] == last[film:]
    assert last[1][-1]["content"], "the answer"
