"""A model for the length of a request: its download, its turn on the device, its loading."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import gradio as gr

from components.server.translate import say
from pipelines.compute.background import stream_work
from pipelines.core.cancel import CancelToken
from pipelines.core.results import Step
from pipelines.core.spec import ModelSpec, Task
from pipelines.serving.device_queue import DeviceTurn
from pipelines.serving.store import PipelineStore
from pipelines.weights.progress import FetchProgress

#: Tasks of milliseconds, whose requests are batched (`pipelines.compute.micro_batches`).
TOGETHER: frozenset[Task] = frozenset(["image-text"])

Sign = TypeVar("Sign")


@dataclass(eq=False)
class Lease:
    """A model that is held, as `pipeline`, once `wait` has ended."""

    _store: PipelineStore
    _spec: ModelSpec
    _stack: ExitStack
    _loading: bool = False
    _left: bool = False
    _turn: DeviceTurn | None = None
    _handing_over: Lock = field(default_factory=Lock)
    pipeline: Any = None

    def wait(
        self,
        sign: Sign,
        prepare: Callable[[Any], Iterator[Step | None]] | None = None,
        progress: gr.Progress | None = None,
    ) -> Iterator[Sign]:
        """Wait for the model; yield `sign` a few times a second, where a handler can be cancelled.

        Then do the steps of `prepare(pipeline)`, yielding `sign` after each and showing how far
        they are as `progress`. Between two steps, a long request lets those of others go first.

        The progress of the request, on a page and in a script, says what it waits for. The weights
        are fetched before the request has a turn on the device, so that a download blocks nobody
        else. A request that is ended releases everything at once, whatever is being loaded.

        Raises:
            WeightsError, MemoryLimitError: the model is not available.
        """
        use = self._store.try_use(self._spec) if self._spec.task in TOGETHER else None
        if use is not None:
            self._stack.enter_context(self._store.queue.visitor())
            self.pipeline = self._stack.enter_context(use)
        else:
            yield from self._wait_in_thread(sign)
        for step in prepare(self.pipeline) if prepare is not None else ():
            if progress is not None and step is not None:
                progress((step.done, step.total), unit=step.unit)
            yield sign
            if self._turn is not None and self._store.queue.give_way(self._turn):
                while ahead := self._store.queue.num_ahead(self._turn):
                    _show_place(ahead, progress or gr.Progress())
                    yield sign

    def _wait_in_thread(self, sign: Sign) -> Iterator[Sign]:
        progress, latest = gr.Progress(), None
        try:
            with closing(stream_work(self._get, linger=False)) as steps:
                for step in steps:
                    latest = latest if step is None else step
                    self._show(latest, progress)  # each time: what is yielded removes it
                    yield sign
        finally:
            with self._handing_over:
                self._left = True

    def _get(self, emit: Callable[[FetchProgress | int], None], cancel: CancelToken) -> None:
        for step in self._store.fetch_spec(self._spec):
            cancel.check()
            emit(step)
        with ExitStack() as mine:
            if self._spec.remote is not None:  # it does not use the device
                mine.enter_context(self._store.remotes.visitor(self._spec.remote))
            else:
                turns = self._store.queue
                if self._spec.task in TOGETHER:
                    mine.enter_context(turns.visitor())
                else:
                    fits = partial(self._store.has_room, self._spec)
                    self._turn = mine.enter_context(turns.alone(cancel, emit, fits))
                self._loading = True
            pipeline = mine.enter_context(self._store.use_spec(self._spec, cancel))
            with self._handing_over:
                if not self._left:  # else all is released at once
                    self.pipeline = pipeline
                    self._stack.enter_context(mine.pop_all())

    def _show(self, step: FetchProgress | int | None, progress: gr.Progress) -> None:
        if self._loading:  # a share of none at all would show no text on the page
            progress(0.0, desc=say("Loading the model"))
            return
        if step is None:
            return
        if isinstance(step, int):
            _show_place(step, progress)
            return
        share = step.done_bytes / step.total_bytes if step.total_bytes else 0.0
        progress(share, desc=say(step.message(self._spec.title)))


def _show_place(num_ahead: int, progress: gr.Progress) -> None:
    progress(0.0, desc=say("Waiting for the model: {count} before you", count=num_ahead))


@contextmanager
def lease(store: PipelineStore, model: ModelSpec | str, task: Task) -> Iterator[Lease]:
    """Hold a model, given by its spec or its key, "" for the default; `wait` comes first.

    Raises:
        InputError: unknown key.
    """
    with ExitStack() as stack:
        spec = model if isinstance(model, ModelSpec) else store.resolve(model, task)
        yield Lease(store, spec, stack)
