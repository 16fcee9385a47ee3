"""Clients that leave while a video is read for them: the model is free again at once."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import handle_file

from components import moments_tab
from components.errors import Page
from components.layout import build_app, launch_options
from pipelines.errors import ReadingStopped
from pipelines.settings import Settings
from pipelines.store import PipelineStore
from pipelines.viclip import videos
from tests.browser.serve import ROOT
from tests.conftest import connect

VIDEO = ROOT / "assets" / "examples" / "circle-moves-left.mp4"
HANG_S = 60


class Held:
    """Stands for reading or writing a video: goes on until it is told to stop."""

    def __init__(self) -> None:
        self.begun = self.stopped = False

    def __call__(self, *args: Any, should_stop: Callable[[], bool], **options: Any) -> Any:
        self.begun = True
        end = time.monotonic() + HANG_S
        while not should_stop():
            assert time.monotonic() < end, "nobody said stop"
            time.sleep(0.01)
        self.stopped = True
        raise ReadingStopped


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, str, PipelineStore]]:
    settings = Settings(
        models="bundled",
        port=0,
        device="cpu",
        dtype="float32",
        work_dir=Path(os.environ["GRADIO_TEMP_DIR"]),
        cache_dir=tmp_path_factory.mktemp("cache"),
        offline=True,
    )
    store = PipelineStore(settings)
    page = build_app(store)
    options = {**launch_options(settings), "quiet": True}
    _, url, _ = page.launch(**options, prevent_thread_lock=True)
    yield page, url, store
    page.close(verbose=False)


def wait_until(what: Callable[[], bool], told: str) -> None:
    end = time.monotonic() + HANG_S
    while not what():
        assert time.monotonic() < end, told
        time.sleep(0.02)


@pytest.mark.parametrize(
    "request_",
    [
        {"api_name": "/match_video", "texts": "a red circle"},
        {"api_name": "/find_moments", "query": "a red circle"},
    ],
    ids=["match", "search"],
)
def test_a_client_that_leaves_ends_the_reading(
    app: tuple[Page, str, PipelineStore],
    monkeypatch: pytest.MonkeyPatch,
    request_: dict[str, Any],
) -> None:
    _, url, store = app
    held = Held()
    monkeypatch.setattr(videos, "open_video", held)
    job = connect(url).submit(video=handle_file(VIDEO), **request_)
    wait_until(lambda: held.begun and bool(job.outputs()), "nothing came")
    job.cancel()
    wait_until(lambda: held.stopped, "the reading goes on")
    wait_until(
        lambda: not any(slot.leases for slot in store._slots.values()), "the model is still lent"
    )


def test_cutting_out_can_be_stopped(
    app: tuple[Page, str, PipelineStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _, store = app
    video = store.settings.work_dir / "cut.mp4"
    video.write_bytes(VIDEO.read_bytes())
    held = Held()
    monkeypatch.setattr(moments_tab, "write_clip", held)
    (cut,) = [event for event in page.fns.values() if event.name == "cut_out"]
    assert any(cut._id in event.cancels for event in page.fns.values()), "by the button"
    working = cut.fn([(str(video), 0.0, 1.0)], 0)
    next(working)
    working.close()
    assert held.stopped
