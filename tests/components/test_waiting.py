"""A slow download keeps its own visitors waiting, and nobody else."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gradio_client import handle_file

from tests.browser.serve import serve
from tests.components.raw_http import post
from tests.conftest import connect
from tests.fake_hub import FakeHub
from tests.tiny_models import make_tiny_clip

REPO = "openai/clip-vit-base-patch32"


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
