"""Publication of the endpoints.

They are typed methods of `components/api`, which check their input, lease a model, call it and
format the result.

Names, parameters and result fields are public: a change is a breaking change in the changelog,
and `tests/components/api/test_contract.py` pins them.
"""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import gradio as gr

from components.api.batch import BatchEndpoints
from components.api.describe import DescribeEndpoints
from components.api.evaluate import EvaluateEndpoints
from components.api.image_text import ImageTextEndpoints
from components.api.search import SearchEndpoints
from components.api.video import VideoChatEndpoints, VideoEndpoints
from components.render import scores as fmt
from components.server.blocks import show_errors
from components.server.docstrings import unwrapped
from components.server.services import Services
from components.widgets.model_picker import is_bundled
from components.widgets.queues import BATCH_QUEUE, BATCHED_QUEUE, DEVICE_QUEUE, LOOKUP_QUEUE
from pipelines.core.spec import Task


def build(services: Services) -> None:
    """Publish the endpoints; those on videos where there is a model for their task."""
    store = services.store
    images, words = ImageTextEndpoints(services), DescribeEndpoints(services)
    batches, measures = BatchEndpoints(services), EvaluateEndpoints(services)
    videos, chats = VideoEndpoints(services), VideoChatEndpoints(services)
    indexes = SearchEndpoints(services)

    def list_models() -> list[dict[str, Any]]:
        """List every model: key, family, repository, licence, memory, whether it is on disk."""
        specs = {spec.key: spec for spec in store.models}  # a remote model of two tasks is one
        return [fmt.as_model(one, store.sources.locate(one) is not None) for one in specs.values()]

    published: tuple[tuple[Task | None, dict[str, Any], list[Callable[..., Any]]], ...] = (
        (None, BATCHED_QUEUE, [images.classify_image, images.rank_similarity]),
        (None, BATCHED_QUEUE, [images.embed_texts, images.embed_images]),
        (None, DEVICE_QUEUE, [words.caption_image, words.answer_image, words.chat_image]),
        (None, BATCH_QUEUE, [batches.caption_images]),
        (None, BATCH_QUEUE, [measures.evaluate_images, measures.train_probe]),
        ("video-text", DEVICE_QUEUE, [videos.match_video, videos.find_moments]),
        ("video-chat", DEVICE_QUEUE, [chats.ask_video]),
        ("video-text", BATCH_QUEUE, [indexes.index_files]),
        ("video-text", DEVICE_QUEUE, [indexes.search_files]),
        ("video-text", LOOKUP_QUEUE, [indexes.forget_files]),
        (None, LOOKUP_QUEUE, [list_models]),
    )
    for task, queue, functions in published:
        for function in functions if task is None or is_bundled(store, task) else ():
            _publish(function, queue)


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
