"""Clients that leave while a video is read for them: the model is free again at once."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from gradio_client import handle_file

from components.tabs import moments
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.models.viclip import videos
from tests.conftest import connect
from tests.support.app_in_process import HANG_S, BundledApp, bundled_app, wait_until
from tests.support.app_process import ROOT

VIDEO = ROOT / "assets" / "examples" / "circle-moves-left.mp4"


class Held:
    """Stands for reading or writing a video: goes on until it is told to stop."""

    def __init__(self) -> None:
        self.begun = self.stopped = False

    def __call__(self, *args: Any, cancel: CancelToken, **options: Any) -> Any:
        self.begun = True
        end = time.monotonic() + HANG_S
        while not cancel.is_cancelled:
            assert time.monotonic() < end, "nobody said stop"
            time.sleep(0.01)
        self.stopped = True
        raise Cancelled


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundledApp]:
    with bundled_app(tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.mark.parametrize(
    "request_",
    [
        {"api_name": "/match_video", "texts": "a red circle"},
        {"api_name": "/find_moments", "query": "a red circle"},
    ],
    ids=["match", "search"],
)
def test_a_client_that_leaves_ends_the_reading(
    app: BundledApp, monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any]
) -> None:
    held = Held()
    monkeypatch.setattr(videos, "open_video", held)
    job = connect(app.url).submit(video=handle_file(VIDEO), **request_)
    wait_until(lambda: held.begun and bool(job.outputs()), "nothing came")
    job.cancel()
    wait_until(lambda: held.stopped, "the reading goes on")
    app.await_idle()


def test_cutting_out_can_be_stopped(app: BundledApp, monkeypatch: pytest.MonkeyPatch) -> None:
    video = app.store.settings.work_dir / "cut.mp4"
    video.write_bytes(VIDEO.read_bytes())
    held = Held()
    monkeypatch.setattr(moments, "write_clip", held)
    cut = app.event("cut_out")
    assert any(cut._id in event.cancels for event in app.page.fns.values()), "by the button"
    working = cut.fn([(str(video), 0.0, 1.0)], 0)
    next(working)
    working.close()
    assert held.stopped
