"""The handler of the Batch tab: does a run and shows how it goes."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from components.jobs.batch_order import make_order, note_over, wished
from components.render import scores as fmt
from components.render.batch import (
    State,
    Tally,
    pictures_strip,
    progress_line,
    results_table,
    skipped_note,
)
from components.server.blocks import show_errors
from components.server.uploads import Uploads
from components.widgets.common import badge
from components.widgets.generation import GenerationControls
from pipelines.batch.job import BatchJob, Look
from pipelines.serving.store import PipelineStore

#: Files of results.
NUM_FILES = 4


def make_handler(
    store: PipelineStore,
    files: gr.File,
    prompt: gr.Textbox,
    model: gr.Dropdown,
    settings: GenerationControls,
    owner: gr.BrowserState,
) -> Callable[..., Any]:
    """Return the handler of Start and Resume, which yields a value for each output of the tab."""
    uploads = Uploads(store.settings)

    @show_errors
    def caption_all(values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        options, chosen = settings.options(values), values[model]
        order = make_order(
            store,
            uploads,
            values[files],
            chosen,
            values[prompt],
            options,
            owner=values[owner] or "",
            pictures=True,
        )
        job, view = BatchJob(store, order), _View(order.folder.name, badge(store, order.spec))
        state: State = "running"
        for look in job.follow():
            if state == "running" and (asked := wished(order.folder)):
                state = asked
                job.end()
            if look.over and state == "running":
                state = "done" if look.is_whole else "failed"
            if look.over:
                note_over(order.folder)
            yield view.show(look, state)

    return caption_all


class _View:
    """Turns looks at a run into what the tab shows; sends only what has changed."""

    def __init__(self, key: str, badge: str) -> None:
        self._key = key
        self._badge = badge
        self._tally = Tally()
        self._sent: list[Any] = []

    def show(self, look: Look, state: State) -> tuple[Any, ...]:
        """Return a value for each output, most of them skipped most of the time."""
        self._tally.add(look.new)
        shown = state if look.over else "running"
        notes = skipped_note(look.skipped)
        values = [
            self._key,
            progress_line(shown, look.stage, look.progress, look.known),
            fmt.shown_if_any(fmt.notices(notes, self._badge)),
            fmt.shown_if_any(pictures_strip(look.pictures)),
            fmt.shown_if_any(results_table(self._tally)),
            *_downloads(look),
            *_buttons(state, look.over),
        ]
        before, self._sent = self._sent or [object()] * len(values), values
        return tuple(
            gr.skip() if new == old else new for new, old in zip(values, before, strict=True)
        )


def _downloads(look: Look) -> list[Any]:
    if not look.files:
        return [gr.update(visible=False)] * NUM_FILES
    return [gr.update(value=str(path), visible=True) for path in look.files]


def _buttons(state: State, over: bool) -> list[Any]:
    """Return Start, Pause, Resume and Cancel."""
    paused = over and state == "pause"
    running = state == "running" and not over
    return [
        gr.update(interactive=over and not paused),
        gr.update(visible=not paused, interactive=running),
        gr.update(visible=paused),
        gr.update(interactive=running or paused),
    ]
