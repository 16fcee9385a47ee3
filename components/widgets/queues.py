"""Gradio's queues: which requests wait for each other, and how many run at once."""

from collections.abc import Callable
from typing import Any

#: For work that takes the device for seconds (text generation). Its requests are all admitted,
#: since some wait for a download meanwhile, or for a server; a lease gives the others the device
#: one after the other. Which model is asked for is an argument, so servers have no queue of their
#: own: `RemoteModels.visitor` and `pipelines.weights.locate` leave a quarter of the places to the
#: rest.
DEVICE_QUEUE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 64}

#: For batches of thousands of images, which take turns at the device batch by batch and let
#: those of `DEVICE_QUEUE` go first (`pipelines.serving.device_queue`). Few of them run
#: at once; the others are admitted all the same, so that their uploads stay while they wait.
BATCH_QUEUE: dict[str, Any] = {"concurrency_id": "batch", "concurrency_limit": 16}

#: For requests of milliseconds that are batched together (`pipelines.compute.micro_batches`): up
#: to one batch of visitors at once. Those who wait for a download wait here too;
#: `pipelines.weights.locate` lets no more than half of the places be taken so.
BATCHED_QUEUE: dict[str, Any] = {"concurrency_id": "batched", "concurrency_limit": 32}

#: For videos that are prepared while their visitors still type; they have the lowest priority.
AHEAD_QUEUE: dict[str, Any] = {"concurrency_id": "ahead", "concurrency_limit": 8}

#: For requests without a model, which do not wait for those with one.
LOOKUP_QUEUE: dict[str, Any] = {"concurrency_id": "lookup", "concurrency_limit": 4}

#: Requests that run at once: all that the queues admitted, and some events of pages.
MOST_AT_ONCE = 16 + sum(
    queue["concurrency_limit"]
    for queue in (DEVICE_QUEUE, BATCH_QUEUE, BATCHED_QUEUE, AHEAD_QUEUE, LOOKUP_QUEUE)
)

#: For events that only change the page.
PAGE_EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def page_request(
    fn: Callable[..., Any], inputs: Any, outputs: Any, progress_on: Any, queue: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of an event of the page that waits in a queue and scrolls to outputs."""
    return {
        "fn": fn,
        "inputs": inputs,
        "outputs": outputs,
        "show_progress_on": [progress_on],
        "scroll_to_output": True,
        "api_visibility": "private",
        **queue,
    }
