"""Captioner of the engine: a model of the store as a function from images to captions."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from PIL import Image

from pipelines.batch.engine import CaptionBatch
from pipelines.batch.export import Captioned
from pipelines.batch.ledger import CaptionSettings
from pipelines.core.cancel import NEVER, CancelToken
from pipelines.core.errors import MediaError, MemoryLimitError, NotBegunError, ServerError
from pipelines.core.options import GenerationOptions
from pipelines.core.spec import ModelSpec, Task
from pipelines.models.captioner import Description
from pipelines.serving.store import PipelineStore

TASK: Task = "caption"


@dataclass(frozen=True)
class Captioner:
    """A model that is ready, and the settings that its captions depend on."""

    settings: CaptionSettings
    caption_batch: CaptionBatch


def make_captioner(
    store: PipelineStore,
    spec: ModelSpec,
    prompt: str,
    options: GenerationOptions,
    cancel: CancelToken = NEVER,
) -> Captioner:
    """Return a captioner with a model of the store, whose weights must be on disk.

    The model is leased for one batch at a time. `cancel` ends a batch with `Cancelled`.
    """

    def caption_batch(images: list[Image.Image]) -> list[Captioned]:
        if spec.remote is not None:
            with store.use(spec.key, TASK) as pipeline:
                return _of_server(pipeline.iter_captions(images, prompt, options), cancel)
        with store.queue.batch(cancel), _begun(store, spec, cancel) as pipeline:
            steps = pipeline.iter_captions(images, prompt, options, batch_size=len(images))
            made = _taken(steps, cancel)
        if failed := [one.error for one in made if one.error]:
            raise MediaError(failed[0])
        return [Captioned(one.text, one.notes) for one in made]

    settings = CaptionSettings(
        model=spec.key,
        revision=_revision(store, spec, cancel),
        prompt=prompt,
        options={
            **{name: _as_set(value) for name, value in asdict(options).items()},
            **_weights_as(store, spec),
        },
    )
    return Captioner(settings, caption_batch)


def _taken(steps: Iterator[Description | None], cancel: CancelToken) -> list[Description]:
    made = []
    with closing(steps):  # type: ignore[type-var]
        for one in steps:
            cancel.check()
            if one is not None:
                made.append(one)
    return made


def _of_server(steps: Iterator[Description | None], cancel: CancelToken) -> list[Captioned]:
    """Return the captions of a server; an image without a caption fails no other."""
    try:
        made = _taken(steps, cancel)
    except ServerError as error:
        raise NotBegunError(error.message, title=error.title) from error
    return [Captioned(one.text, one.notes, one.error) for one in made]


@contextmanager
def _begun(store: PipelineStore, spec: ModelSpec, cancel: CancelToken) -> Iterator[Any]:
    """Lease the model; raise `NotBegunError` if it does not fit, whatever the size of the batch."""
    with ExitStack() as stack:
        try:
            pipeline = stack.enter_context(store.use(spec.key, TASK, cancel, inf))
        except MemoryLimitError as error:
            raise NotBegunError(error.message, title=error.title) from error
        yield pipeline


def _as_set(value: float) -> float:
    """Return 0 for 0.0, so that the same setting always has the same key."""
    return int(value) if value == int(value) else value


def _weights_as(store: PipelineStore, spec: ModelSpec) -> dict[str, str]:
    """Return the form of the weights, which changes some captions."""
    if spec.remote is not None:
        return {}
    if spec.demo:  # the same on every machine
        return {"dtype": "float32", "quantization": "none"}
    return {"dtype": store.device.dtype, "quantization": store.settings.quantization}


def _revision(store: PipelineStore, spec: ModelSpec, cancel: CancelToken) -> str:
    """Return the identity of the weights among those of the same key."""
    if spec.remote is not None:
        with store.use(spec.key, TASK) as pipeline:
            name = pipeline.model_name(cancel)
        return hashlib.sha256(f"{spec.remote.url} {name}".encode()).hexdigest()[:16]
    return store.revision(spec)
