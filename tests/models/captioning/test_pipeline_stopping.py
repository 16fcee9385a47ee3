"""A run that is told to stop ends between two layers: in a stream, a batch, a search."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from pipelines.compute import background
from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.options import GenerationOptions
from pipelines.models.captioning.decoding import cancellable, current_token, watch_layers
from pipelines.models.captioning.pipeline import CaptionPipeline
from tests.support.captioning import FAMILIES, live

#: Families whose layers differ: OPT, T5, an encoder for the question, patches, a grid of patches.
KEYS = ["blip2-opt", "blip2-t5", "blip", "instructblip", "llava", "florence2", "qwen2.5-vl"]
OPTIONS = GenerationOptions(max_new_tokens=40)


def layers(model: Any) -> list[Any]:
    """Return what is run one after the other, outermost first."""
    return [layer for m in model.modules() if isinstance(m, torch.nn.ModuleList) for layer in m]


def hold(ran: list[int], at: int) -> Callable[..., None]:
    """Return a hook that counts layers, and at the one with that number waits to be told to stop.

    The run is closed while it waits; what comes after that layer must not be run.
    """

    def look(*_: Any) -> None:
        ran.append(len(ran))
        end = time.monotonic() + 30
        while len(ran) == at and not current_token().is_cancelled and time.monotonic() < end:
            time.sleep(0.001)

    return look


RUNS: dict[str, Callable[[CaptionPipeline, list[Path]], Iterator[Any]]] = {
    "caption": lambda model, files: model.stream_caption(files[0], options=OPTIONS),
    "candidates": lambda model, files: model.iter_candidates(files[0], 5, OPTIONS),
    "batch": lambda model, files: model.iter_captions(files, options=OPTIONS),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("key", [key for key in KEYS if key in FAMILIES])
def test_it_ends_before_the_next_layer(
    key: str, run: str, tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tower and the prompt ran to their ends, however long that took."""
    monkeypatch.setattr(background, "HEARTBEAT_S", 0.002)
    FAMILIES[key][1](tmp_path / key)
    model = live(tmp_path / key, key)
    ran: list[int] = []
    every = layers(model.connector.model)
    hooks = [layer.register_forward_pre_hook(lambda *_: ran.append(0)) for layer in every]
    list(RUNS[run](model, pictures[:1]))
    whole = len(ran)
    for hook in hooks:
        hook.remove()
    for at in (1, 2, 4):
        model.features = type(model.features)()
        ran.clear()
        look = hold(ran, at)
        hooks = [layer.register_forward_pre_hook(look) for layer in every]
        work: Any = RUNS[run](model, pictures[:1])
        next(work)
        while len(ran) < at:
            next(work)
        work.close()
        for hook in hooks:
            hook.remove()
        # a layer may hold a list of layers itself, which the first of them is asked before
        assert len(ran) == at < whole


def test_only_the_run_that_was_told_stops() -> None:
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    watch_layers(model)
    seen: list[str] = []

    def other() -> None:
        model.layers[1](torch.zeros(2))
        seen.append("other")

    with cancellable(CancelToken(lambda: True)):
        with pytest.raises(Cancelled):
            model.layers[1](torch.zeros(2))
        thread = Thread(target=other)
        thread.start()
        thread.join()
    model.layers[0](torch.zeros(2))
    assert seen == ["other"]
