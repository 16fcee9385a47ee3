"""Who waits is told so; a slow download keeps its own visitors waiting, and nobody else."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from gradio_client import handle_file

import pipelines.serving.device_queue
from components.widgets.examples import drawn_videos
from pipelines.core.cancel import NEVER
from pipelines.core.results import Step
from pipelines.models.viclip.pipeline import ViClipPipeline
from tests.conftest import connect
from tests.fakes.hub import FakeHub
from tests.fakes.tiny_captioning import make_blip
from tests.fakes.tiny_clip import make_tiny_clip
from tests.support.app_in_process import bundled_app, wait_until
from tests.support.app_process import serve
from tests.support.raw_http import post

REPO = "openai/clip-vit-base-patch32"
BLIP = "Salesforce/blip-image-captioning-base"


def test_others_are_answered_while_a_crowd_waits_for_a_model(
    tmp_path: Path, red_circle: Path
) -> None:
    """32 requests for a model on its way kept every place until the hub was done."""
    make_tiny_clip(tmp_path / "repositories" / REPO)
    with FakeHub(tmp_path / "repositories") as hub, ThreadPoolExecutor(40) as crowd:
        hub.faults.bytes_per_s = 20_000
        with serve(tmp_path, HF_ENDPOINT=hub.url) as app:
            client = connect(app.url)
            demo = {"image": handle_file(red_circle), "labels": "red circle\nblue star"}
            client.predict(**demo, api_name="/classify_image")
            assert hub.requests == [], "the demo asks nobody"

            def want(_: int) -> dict[str, Any]:
                return post(app.url, "embed_texts", ["a", "clip-vit-b32"])

            asked = [crowd.submit(want, index) for index in range(40)]
            end = time.monotonic() + 60
            while sum(job.done() for job in asked) < 32:
                assert time.monotonic() < end
                time.sleep(0.1)
            label, _ = client.predict(**demo, api_name="/classify_image")
            assert label["label"] == "red circle"
            assert len(client.predict(api_name="/list_models")) > 1
            assert sum(job.done() for job in asked) == 32, "the download is still on its way"
            refused = [job.result() for job in asked if job.done()]
            assert {answer["title"] for answer in refused} == {"Download under way"}
            assert "is being downloaded" in refused[0]["error"]
            hub.faults.bytes_per_s = 0
            answers = [job.result(timeout=120) for job in asked]
            assert sum("data" in answer for answer in answers) == 8


def test_a_download_keeps_nobody_from_the_device(tmp_path: Path, red_circle: Path) -> None:
    """Captions, answers and videos all waited for one visitor's download of another model."""
    make_blip(tmp_path / "repositories" / BLIP)
    with FakeHub(tmp_path / "repositories") as hub:
        hub.faults.bytes_per_s = 2_000
        with serve(tmp_path, HF_ENDPOINT=hub.url) as app:
            image = handle_file(red_circle)
            waiting = {"image": image, "model": "blip-base", "api_name": "/caption_image"}
            first, leaving = (connect(app.url).submit(**waiting) for _ in range(2))
            end = time.monotonic() + 60
            while not (first.outputs() and leaving.outputs()):  # signs of life, still without text
                assert time.monotonic() < end
                time.sleep(0.05)
            client = connect(app.url)
            caption = client.predict(image=image, api_name="/caption_image")
            assert "red circle" in caption
            asked = {"message": "What colour is the circle?", "api_name": "/chat_image"}
            assert client.predict(image=image, **asked)[0] == "red"
            leaving.cancel()
            assert "red" in client.predict(image=image, api_name="/caption_image")
            assert not first.done(), "the download is still on its way"
            hub.faults.bytes_per_s = 0
            assert isinstance(first.result(timeout=120), str)


def test_a_script_sees_its_place(tmp_path: Path, red_circle: Path) -> None:
    """The place was told to the page only; a script saw an empty text that streamed."""
    with bundled_app(tmp_path / "cache") as app:
        request = {"image": handle_file(red_circle), "api_name": "/caption_image"}
        jobs = []

        def told(job: Any) -> list[str]:
            return [str(one.desc) for one in job.status().progress_data or []]

        with app.store.queue.alone(NEVER):
            for number in (1, 2):
                jobs.append(connect(app.url).submit(**request))
                place = f"Waiting for the model: {number} before you"
                wait_until(lambda place=place: place in told(jobs[-1]), f"nobody told: {place}")
        assert ["red circle" in job.result(timeout=120) for job in jobs] == [True, True]


def test_a_long_search_lets_others_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search takes steps until another visitor has an answer, or for half a minute."""
    begun, answered = Event(), Event()
    search = ViClipPipeline.search

    def long_search(self: ViClipPipeline, *arguments: Any) -> Iterator[Step | None]:
        for _ in range(300):
            begun.set()
            yield Step(done=1, total=2, unit="parts")
            if answered.wait(0.1):
                break
        yield from search(self, *arguments)

    monkeypatch.setattr(ViClipPipeline, "search", long_search)
    monkeypatch.setattr(pipelines.serving.device_queue, "GIVE_WAY_S", 0.0)
    entry = next(entry for entry in drawn_videos() if entry["query"])
    video = handle_file(entry["path"])
    with bundled_app(tmp_path / "cache") as app:
        find = {"query": entry["query"], "api_name": "/find_moments"}
        long = connect(app.url).submit(video=video, **find)
        assert begun.wait(60)
        text, _ = connect(app.url).predict(
            video=video, question="What moves?", api_name="/ask_video"
        )
        assert not long.done()
        answered.set()
        moments = long.result(timeout=120)
    assert text
    assert moments
