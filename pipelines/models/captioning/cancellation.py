"""Cancellation of a forward pass between two layers, by hooks that check the thread's token."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipelines.core.cancel import NEVER, CancelToken

#: The token of each thread's run: other threads may compute with the same model.
_run = threading.local()


@contextmanager
def cancellable(cancel: CancelToken) -> Iterator[None]:
    """Check `cancel` before each layer that this thread computes within the block.

    Only layers of models that `watch_layers` was called for are checked.
    """
    _run.cancel = cancel
    try:
        yield
    finally:
        del _run.cancel


def current_token() -> CancelToken:
    """Return the token of this thread's run."""
    token: CancelToken = getattr(_run, "cancel", NEVER)
    return token


def watch_layers(model: torch.nn.Module) -> None:
    """Register the check before every layer of a model, vision and language alike."""
    for module in list(model.modules()):
        if isinstance(module, torch.nn.ModuleList):
            for layer in module:
                layer.register_forward_pre_hook(_check)


def _check(*_: Any) -> None:
    current_token().check()
