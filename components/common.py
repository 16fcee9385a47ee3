"""What the tabs share: queues, model picker, lease with progress, notices."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from pipelines.catalogue import CATALOGUE, MODELS, Task
from pipelines.store import PipelineStore

#: For work that takes the device for seconds (text generation): one at a time, others see their
#: place in the queue.
DEVICE_QUEUE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1}

#: For requests of milliseconds that are batched together (`pipelines.batching`): up to one batch
#: of visitors at once. A download waits here too and keeps nobody else from an answer.
BATCHED_QUEUE: dict[str, Any] = {"concurrency_id": "batched", "concurrency_limit": 32}


@contextmanager
def lease(
    store: PipelineStore, key: str, task: Task, progress: gr.Progress | None = None
) -> Iterator[Any]:
    """Lend a pipeline; its weights are fetched first where they are not on disk, with progress."""
    for step in store.fetch(key, task):
        if progress is not None:
            done, total = step.done_bytes / 1e6, step.total_bytes / 1e6
            name = store.resolve(key, task).title
            share = done / total if total else 0.0
            progress(share, desc=f"Downloading {name}: {done:,.0f} of {total:,.0f} MB")
    with store.use(key, task) as pipeline:
        yield pipeline


def model_choices(task: Task) -> list[tuple[str, str]]:
    """Return the picker's choices, (title, key)."""
    return [(spec.title, spec.key) for spec in MODELS if spec.task == task]


def model_hint(store: PipelineStore, key: str) -> str:
    """Return what a person should know before choosing a model: size, place, licence."""
    spec = CATALOGUE[key]
    if spec.demo:
        return "Bundled, a few megabytes, knows drawings of coloured shapes only."
    on_disk = store.sources.locate(spec) is not None
    where = "on this machine" if on_disk else f"{spec.download_gb:.1f} GB to download, once"
    return f"`{spec.repo}` · {where} · needs {spec.memory_gb:.1f} GB of memory · {spec.licence}"
