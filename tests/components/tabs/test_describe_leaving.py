"""Clients that leave while the bundled model works for them: it stops. The app in this process."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from pipelines.models.captioning.decoding import current_token
from tests.conftest import connect, draw_circle
from tests.support.app_in_process import BundledApp, bundled_app, wait_until

#: Seconds that are added to each step of the language model, so that there is time to leave.
STEP_S = 0.25


@dataclass
class Steps:
    """Counts the steps of a model, and slows them down."""

    number: int = 0

    def count(self, *_: Any) -> None:
        self.number += 1
        time.sleep(STEP_S)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundledApp]:
    with bundled_app(tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture(scope="module")
def steps(app: BundledApp) -> Steps:
    counted = Steps()
    with app.store.use("demo-blip2", "caption") as describer:
        describer.connector.model.language_model.register_forward_pre_hook(counted.count)
    return counted


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    draw_circle().save(tmp_path / "red.png")
    return handle_file(tmp_path / "red.png")


def leave(client: Client, request: dict[str, Any]) -> None:
    """Send a request, wait until something comes of it, and leave."""
    job = client.submit(**request)
    wait_until(lambda: bool(job.outputs()) or job.done(), "nothing came")
    assert not job.done(), "it was over before anything came"
    job.cancel()


DRAWN = {"temperature": 5.0, "max_new_tokens": 200, "seed": 1}
BEAMS = {"num_beams": 2}


@pytest.mark.parametrize(
    "request_",
    [
        {"api_name": "/caption_image", **DRAWN},
        {"api_name": "/caption_image", **BEAMS},
        {"api_name": "/answer_image", "question": "What is in the picture?", **BEAMS},
        {"api_name": "/chat_image", "message": "What is in the picture?", **BEAMS},
    ],
    ids=["drawn", "beams", "answer", "chat"],
)
def test_a_client_that_leaves_stops_the_model(
    app: BundledApp, steps: Steps, picture: Any, request_: dict[str, Any]
) -> None:
    """A search gave no sign of life to Gradio, which therefore could not end it."""
    request = {"image": picture, **request_}
    if "num_beams" in request:
        steps.number = 0
        connect(app.url).predict(**request)
        whole = steps.number
    else:
        whole = request["max_new_tokens"]
    steps.number = 0
    leave(connect(app.url), request)
    app.await_idle()
    assert 0 < steps.number < whole


@pytest.mark.parametrize("api_name", ["/caption_image", "/chat_image"])
def test_a_client_that_leaves_while_the_picture_is_read_stops_the_model(
    app: BundledApp, steps: Steps, tmp_path: Path, api_name: str
) -> None:
    """Until the first token there was nothing at which Gradio could end the request."""
    draw_circle("#12ab9f", 200 + len(api_name)).save(tmp_path / "new.png")  # encoded by nobody yet
    layers: list[Any] = []

    def hold(*_: Any) -> None:
        layers.append(None)
        end = time.monotonic() + 30
        while len(layers) == 1 and not current_token().is_cancelled and time.monotonic() < end:
            time.sleep(0.01)

    with app.store.use("demo-blip2", "caption") as describer:
        tower = describer.connector.model.vision_model.encoder.layers
    assert len(tower) > 1
    hooks = [layer.register_forward_pre_hook(hold) for layer in tower]
    steps.number = 0
    request = {"image": handle_file(tmp_path / "new.png"), "api_name": api_name}
    leave(connect(app.url), request | ({"message": "What?"} if api_name == "/chat_image" else {}))
    app.await_idle()
    for hook in hooks:
        hook.remove()
    assert len(layers) == 1, "the tower ends before its next layer"
    assert steps.number == 0, "and no token is generated"
