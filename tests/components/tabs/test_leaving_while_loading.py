"""Visitors who leave while a model's weights are loaded for them: at once, and nothing is lost."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import handle_file

from pipelines.models.base import Pipeline
from pipelines.serving.store import PipelineStore
from tests.conftest import connect
from tests.support.app_in_process import HANG_S, BundledApp, bundled_app, wait_until


@pytest.fixture
def app(tmp_path: Path) -> Iterator[BundledApp]:
    with bundled_app(tmp_path / "cache") as running:
        yield running


class Gate:
    """Holds whoever comes through it until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached: list[str] = []

    def __call__(self, who: str) -> None:
        self.reached.append(who)
        assert self.opened.wait(HANG_S), "nobody opened the gate"


def hold_import(gate: Gate, store: PipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold what comes before the weights: the libraries are imported."""
    build = store.build

    def slow(spec: Any, *args: Any) -> Pipeline:
        gate(spec.key)
        return build(spec, *args)

    store.build = slow


def hold_load(gate: Gate, store: PipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the weights themselves."""
    load = Pipeline.load

    def slow(self: Pipeline) -> None:
        gate(self.spec.key)
        load(self)

    monkeypatch.setattr(Pipeline, "load", slow)


def hold_fetch(gate: Gate, store: PipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the question whether the weights are to be had, which asks the hub."""
    fetch = store.sources.fetch

    def slow(spec: Any) -> Any:
        gate(spec.key)
        return fetch(spec)

    monkeypatch.setattr(store.sources, "fetch", slow)


@pytest.mark.parametrize("hold", [hold_import, hold_load, hold_fetch])
@pytest.mark.parametrize("api_name", ["/caption_image", "/embed_images"])
def test_who_leaves_is_gone_before_the_model_is_there(
    app: BundledApp,
    red_circle: Path,
    monkeypatch: pytest.MonkeyPatch,
    hold: Any,
    api_name: str,
) -> None:
    """Whoever pressed Stop waited for the hub's answer and for the import of torch."""
    gate, picture = Gate(), handle_file(red_circle)
    hold(gate, app.store, monkeypatch)
    request = {"api_name": api_name, "images" if "embed" in api_name else "image": picture}
    if "embed" in api_name:
        request["images"] = [picture]
    job = connect(app.url).submit(**request)
    wait_until(lambda: bool(gate.reached) and bool(job.outputs()), "nothing came")
    job.cancel()
    wait_until(lambda: app.num_running() == 0, "the request goes on")
    assert not gate.opened.is_set()
    gate.opened.set()
    answer = connect(app.url).predict(**request)
    assert "red" in answer if isinstance(answer, str) else answer["dim"] > 1
    app.await_idle()
    if hold is not hold_fetch:
        assert len(gate.reached) == 1, "what was begun for the one who left is kept for the next"


def test_an_answer_to_somebody_else_goes_on(
    app: BundledApp, red_circle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    hold_load(gate, app.store, monkeypatch)
    request = {"image": handle_file(red_circle), "api_name": "/caption_image"}
    leaving, staying = (connect(app.url).submit(**request) for _ in range(2))
    wait_until(lambda: bool(leaving.outputs()) and bool(staying.outputs()), "nothing came")
    leaving.cancel()
    wait_until(lambda: app.num_running() == 1, "the one who left is still here")
    assert not staying.done()
    gate.opened.set()
    assert "red circle" in staying.result(timeout=HANG_S)
    app.await_idle()
