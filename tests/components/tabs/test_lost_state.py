"""What a page can still do whose visit Gradio has given up: the page shows more than is held."""

from pathlib import Path
from typing import Any

import pytest

from components.jobs.batch_order import note_over, wish
from components.page import build_app
from components.server.services import Services
from pipelines.core.settings import Settings
from pipelines.serving.store import PipelineStore
from tests.support.app_process import RunningApp
from tests.support.raw_http import press, upload

EXAMPLES = Path(__file__).parent.parent.parent.parent / "assets" / "examples"

SAID = [("user", "What colour is it?"), ("assistant", "red")]


@pytest.mark.parametrize("name", ["go_to", "go_to_1", "open"], ids=["match", "moments", "search"])
@pytest.mark.parametrize(
    ("language", "told"), [("", "no longer on the server"), ("zh", "服务器上")]
)
def test_a_click_on_a_list_that_is_gone(
    running_app: RunningApp, name: str, language: str, told: str
) -> None:
    """Once an internal error: no list had a first entry."""
    clicked = {"index": 0, "value": None}
    states = [None, None] if name == "go_to_1" else [None]
    output = press(running_app.url, name, states, about=clicked, language=language)
    assert told in output["error"]


@pytest.mark.parametrize(
    ("name", "file"), [("add", "red-circle.png"), ("add_1", "star-then-square.mp4")]
)
def test_a_conversation_goes_on(running_app: RunningApp, name: str, file: str) -> None:
    """The next question once began a new one, without a word."""
    path = upload(running_app.url, EXAMPLES / file)
    media = {"path": path, "meta": {"_type": "gradio.FileData"}}
    chat = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in SAID]
    output = press(running_app.url, name, ["And what shape?", chat, media, None, None])
    said = [(each["role"], each["content"][0]["text"]) for each in output["data"][0]]
    assert said == [*SAID, ("user", "And what shape?")]


@pytest.mark.parametrize("name", ["pause", "cancel"])
def test_a_run_of_a_page_that_nobody_knows(running_app: RunningApp, name: str) -> None:
    """Once Pause greyed both buttons, and Cancel offered Start, while the run went on."""
    output = press(running_app.url, name, [None])
    assert "no longer knows which run" in output["error"]


@pytest.fixture
def ending(tmp_path: Path) -> tuple[Any, Any, Settings]:
    """The handlers of Pause and Cancel, and what they were made with."""
    settings = Settings(models="bundled", work_dir=tmp_path, cache_dir=tmp_path / "cache")
    events = {
        event.name: event.fn
        for event in build_app(Services.of(PipelineStore(settings))).fns.values()
    }
    return events["pause"], events["cancel"], settings


def test_cancel_leaves_start_greyed_while_a_run_is_on_its_way_to_a_pause(
    ending: tuple[Any, Any, Settings],
) -> None:
    pause, cancel, settings = ending
    folder = settings.work_dir / "results" / "run"
    folder.mkdir(parents=True)
    off = {"interactive": False, "__type__": "update"}
    skipped = {"__type__": "update"}
    assert pause("run") == (off, off)
    assert not wish(settings, "run", "cancel"), "it was asked to pause"
    assert cancel("run") == (skipped, off, skipped, off)
    note_over(folder)
    assert cancel("run")[0] == {"interactive": True, "__type__": "update"}, "a paused one is let go"
    assert pause("run") == (skipped, skipped)


def test_a_run_whose_results_were_deleted_is_over(ending: tuple[Any, Any, Settings]) -> None:
    _, cancel, _ = ending
    assert cancel("gone")[0] == {"interactive": True, "__type__": "update"}
