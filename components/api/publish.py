"""The public endpoints: typed functions of `components/api`, which lease, call and format.

Names, parameters and result fields are public: a change is a breaking change in the changelog,
and `tests/components/api/test_contract.py` pins them.
"""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import gradio as gr

from components.api import batch, describe, evaluate, image_text, search, video
from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.docstrings import unwrapped
from components.server.services import Services
from components.widgets.queues import LOOKUP_QUEUE


def build(services: Services) -> None:
    """Publish the endpoints."""
    store = services.store

    def list_models() -> list[dict[str, Any]]:
        """List every model: key, family, repository, licence, memory, whether it is on disk."""
        specs = {spec.key: spec for spec in store.models}  # a remote model of two tasks is one
        return [fmt.as_model(one, store.sources.locate(one) is not None) for one in specs.values()]

    for family in (image_text, describe, batch, evaluate, video, search):
        for function, queue in family.endpoints(services):
            _publish(function, queue)
    _publish(list_models, LOOKUP_QUEUE)


def _publish(function: Callable[..., Any], queue: dict[str, Any]) -> None:
    """Publish an endpoint; a generator's values are what it returns to a script.

    A long request first streams empty values, so that it ends when its client has left.
    """
    endpoint = show_errors(function)
    endpoint.__doc__ = unwrapped(inspect.getdoc(function) or "")
    if inspect.isgeneratorfunction(function):
        signature = inspect.signature(function)
        (value,) = get_args(signature.return_annotation)
        shown = signature.replace(return_annotation=value)
        endpoint.__signature__ = shown  # type: ignore[attr-defined]
    gr.api(endpoint, api_name=function.__name__, **queue)
