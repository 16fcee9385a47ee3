"""A model for the length of a request: its download, its turn at the device, its loading."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Lock
from typing import Any, TypeVar

import gradio as gr

from components.server.translate import say
from pipelines.compute.background import stream_work
from pipelines.core.spec import ModelSpec, Task
from pipelines.serving.store import PipelineStore
from pipelines.weights.progress import FetchProgress

#: Tasks of milliseconds, whose requests are batched (`pipelines.compute.micro_batches`).
TOGETHER: frozenset[Task] = frozenset(["image-text"])

Sign = TypeVar("Sign")


class Lease:
    """A model that is lent once `wait` has come to its end.

    Attributes:
        pipeline: the model, then.
    """

    pipeline: Any

    def __init__(self, store: PipelineStore, spec: ModelSpec, stack: ExitStack) -> None:
        """Give nothing yet; what is given back at the end goes to `stack`."""
        self._store = store
        self._spec = spec
        self._stack = stack
        self._loading = False
        self._left = False
        self._handing_over = Lock()

    def wait(self, sign: Sign) -> Iterator[Sign]:
        """Wait for the model, yielding `sign` a few times a second: there a handler can be ended.

        What it waits for is told as the progress of the request, to a page and to a script. The
        weights are fetched before there is a turn at the device, so that a download keeps nobody
        else waiting. Who leaves does so at once, whatever is imported, asked or loaded meanwhile.

        Raises:
            WeightsError, MemoryLimitError: there is no model to be had.
        """
        progress, latest = gr.Progress(), None
        try:
            with closing(stream_work(self._get, linger=False)) as steps:
                for step in steps:
                    latest = latest if step is None else step
                    self._tell(latest, progress)  # each time: what is yielded takes it off again
                    yield sign
        finally:
            with self._handing_over:
                self._left = True

    def _get(self, emit: Callable[[FetchProgress | int], None], stop: Callable[[], bool]) -> None:
        key, task = self._spec.key, self._spec.task
        for step in self._store.fetch(key, task):
            if stop():
                return
            emit(step)
        with ExitStack() as mine:
            if self._spec.remote is not None:  # it leaves the device to others
                mine.enter_context(self._store.remotes.visitor(self._spec.remote))
            else:
                turns = self._store.queue
                turn = turns.visitor() if task in TOGETHER else turns.alone(stop, emit)
                mine.enter_context(turn)
                self._loading = True
            pipeline = mine.enter_context(self._store.use(key, task, stop))
            with self._handing_over:
                if not self._left:  # else all is given back here and now
                    self.pipeline = pipeline
                    self._stack.enter_context(mine.pop_all())

    def _tell(self, step: FetchProgress | int | None, progress: gr.Progress) -> None:
        if self._loading:  # a share of none at all would show no text on the page
            progress(0.0, desc=say("Loading the model"))
            return
        if step is None:
            return
        if isinstance(step, int):
            progress(0.0, desc=say(f"Waiting for the model: {step} before you"))
            return
        done, total = step.done_bytes / 1e6, step.total_bytes / 1e6
        share = done / total if total else 0.0
        title = self._spec.title
        progress(share, desc=say(f"Downloading {title}: {done:,.0f} of {total:,.0f} MB"))


@contextmanager
def lease(store: PipelineStore, key: str, task: Task) -> Iterator[Lease]:
    """Lend a model for the length of a `with` block; in it, `wait` comes first.

    Args:
        store: lends it.
        key: of the model; "" for the default.
        task: what it is for.

    Raises:
        InputError: unknown key.
    """
    with ExitStack() as stack:
        yield Lease(store, store.resolve(key, task), stack)
