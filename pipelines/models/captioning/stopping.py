"""Leaving a forward pass in the middle: hooks on a model's layers, asked for the run at hand."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: Asked before each layer; true ends the run.
ShouldStop = Callable[[], bool]

_run = threading.local()


class GenerationStopped(Exception):
    """The run was told to stop; what it computed so far is dropped."""


@contextmanager
def stopping(should_stop: ShouldStop) -> Iterator[None]:
    """End what this thread computes within the block, at the next layer, once told to.

    Only models that `watch_layers` was called for can be left so. Other threads, which may be at
    the same model, are not asked.
    """
    _run.should_stop = should_stop
    try:
        yield
    finally:
        _run.should_stop = None


def watch_layers(model: torch.nn.Module) -> None:
    """Make every layer of a model, vision and language alike, a place to leave it at."""
    for module in list(model.modules()):
        if isinstance(module, torch.nn.ModuleList):
            for layer in module:
                layer.register_forward_pre_hook(_look)


def check_stop() -> None:
    """Raise where the run of this thread was told to stop.

    Raises:
        Stopped: it was.
    """
    should_stop = getattr(_run, "should_stop", None)
    if should_stop is not None and should_stop():
        raise GenerationStopped


def _look(*_: Any) -> None:
    check_stop()
