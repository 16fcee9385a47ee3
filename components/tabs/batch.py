"""Captions of thousands of images: upload, progress, pause, results as files."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.jobs.batch_order import Wish, is_over, make_order, note_over, wish, wished
from components.render import scores as fmt
from components.render.batch import (
    State,
    Tally,
    pictures_strip,
    progress_line,
    results_table,
    skipped_note,
)
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.widgets.examples import batch_examples
from components.widgets.generation import GenerationControls, wire_longest
from components.widgets.layout import (
    HIDDEN,
    TabHandlers,
    browser_secret,
    download_button,
    hidden_html,
    lay_out_tab,
    show,
)
from components.widgets.model_picker import ModelPicker, badge, is_demo, wire_model_picker
from components.widgets.queues import BATCH_QUEUE, PAGE_EVENT
from pipelines.batch.job import BatchJob, BatchProgress
from pipelines.core.errors import InputError
from pipelines.core.spec import Task

TASK: Task = "caption"


LEAD = (
    "Captions for many pictures at once. A picture that cannot be read is listed with the reason "
    "and stops nothing. Nothing gets lost: within an hour, start the same pictures again and only "
    "what is missing is done."
)

EMPTY = paragraph(
    "Upload pictures, or one zip of pictures, and press Start. Captions appear "
    "here as they are made; at the end there are files to download."
)

#: Labels of the files of results, in the order in which a run gives them.
FILES = ("Download all (.zip)", "Download .csv", "Download .jsonl", "Download metadata.jsonl")


class Controls:
    """Input components of the tab."""

    def __init__(self) -> None:
        self.files = gr.File(
            label="Pictures, or one zip of pictures",
            file_count="multiple",
            height=190,
        )
        self.examples = gr.Button("Take the example pictures", size="sm")
        self.prompt = gr.Textbox(
            label="Begin with",
            placeholder="Optional: words that every caption goes on from, such as: a photo of",
            max_lines=4,
        )
        self.picker = ModelPicker(TASK)
        self.settings = GenerationControls(40)
        with gr.Row():
            self.start = gr.Button("Start", variant="primary", elem_classes="go", min_width=90)
            self.pause = gr.Button("Pause", interactive=False, min_width=90)
            self.resume = gr.Button("Resume", visible=False, variant="primary", min_width=90)
            self.cancel = gr.Button("Cancel", interactive=False, min_width=90)
        asked = [self.files, self.prompt, self.picker.dropdown]
        self.inputs: list[Any] = [*asked, *self.settings.inputs]
        self.buttons: list[Any] = [self.start, self.pause, self.resume, self.cancel]


class Results:
    """Output components of a run; `run` names it, for this visitor only."""

    def __init__(self) -> None:
        self.run = gr.State("")
        self.progress = gr.HTML(EMPTY, padding=False)
        with gr.Row(elem_classes="downloads"):
            self.downloads = tuple(download_button(label) for label in FILES)
        self.notices = hidden_html()
        self.pictures = hidden_html()
        self.table = hidden_html()
        shown = [self.run, self.progress, self.notices, self.pictures, self.table]
        self.outputs: list[Any] = [*shown, *self.downloads]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    _, controls, results = lay_out_tab("Batch", LEAD, Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    wire_longest(controls.settings, controls.picker.dropdown, page)
    owner = browser_secret(page, "seesay-batch")
    _wire(Handlers(services, controls, owner), controls, results, owner)


class Handlers(TabHandlers[Controls]):
    """Handlers of the events."""

    def __init__(self, services: Services, controls: Controls, owner: gr.BrowserState) -> None:
        super().__init__(services, controls)
        self._owner = owner  # the secret of a visitor's browser

    @show_errors
    def caption_all(self, values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        """Caption the files; yields a value for each output, then for each button."""
        controls = self._controls
        order = make_order(
            self._store,
            self._uploads,
            values[controls.files],
            values[controls.picker.dropdown],
            values[controls.prompt],
            controls.settings.options(values),
            owner=values[self._owner] or "",
            pictures=True,
        )
        job = BatchJob(self._store, order)
        view = _View(order.folder.name, badge(self._store, order.spec))
        state: State = "running"
        for progress in job.follow():
            if state == "running" and (wanted := wished(order.folder)):
                state = wanted
                job.end()
            if progress.over and state == "running":
                state = "done" if progress.is_whole else "failed"
            if progress.over:
                note_over(order.folder)
            yield view.show(progress, state)

    @show_errors
    def pause(self, run: str) -> tuple[Any, ...]:
        """Ask the run to pause; returns Pause and Cancel."""
        if self._wish(run, "pause"):
            return _OFF, _OFF
        return gr.skip(), gr.skip()

    @show_errors
    def cancel(self, run: str) -> tuple[Any, ...]:
        """Ask the run to end, or give up a paused one; returns the buttons."""
        if self._wish(run, "cancel"):
            return gr.skip(), _OFF, gr.skip(), _OFF
        return _AT_REST

    def _wish(self, run: str, what: Wish) -> bool:
        """Ask a run to end; returns whether it has yet to.

        Raises:
            InputError: Gradio has given up the state with the name of the run.
        """
        if not run:
            raise InputError(
                "The server no longer knows which run this page shows, and cannot end it from "
                "here. Reload the page: that ends it. Then start the same pictures again; only "
                "what is missing is done.",
                title="Deleted meanwhile",
            )
        return wish(self._settings, run, what) or not is_over(self._settings, run)

    def take_examples(self, key: str) -> list[str]:
        """Return the example images that suit a model."""
        drawn, photos = batch_examples()
        return drawn if is_demo(key) else photos


class _View:
    """Values of the outputs for each step of a run; only what has changed is sent."""

    def __init__(self, key: str, badge: str) -> None:
        self._key = key
        self._badge = badge
        self._tally = Tally()
        self._sent: list[Any] = []

    def show(self, progress: BatchProgress, state: State) -> tuple[Any, ...]:
        self._tally.add(progress.new)
        shown = state if progress.over else "running"
        notes = skipped_note(progress.skipped)
        values = [
            self._key,
            progress_line(shown, progress.stage, progress.progress, progress.known),
            fmt.shown_if_any(fmt.notices(notes, self._badge)),
            fmt.shown_if_any(pictures_strip(progress.pictures)),
            fmt.shown_if_any(results_table(self._tally)),
            *([show(str(path)) for path in progress.files] or [HIDDEN] * len(FILES)),
            *_buttons(state, progress.over),
        ]
        before, self._sent = self._sent or [object()] * len(values), values
        return tuple(
            gr.skip() if new == old else new for new, old in zip(values, before, strict=True)
        )


def _buttons(state: State, over: bool) -> list[Any]:
    paused = over and state == "pause"
    running = state == "running" and not over
    return [
        gr.update(interactive=over and not paused),
        gr.update(visible=not paused, interactive=running),
        gr.update(visible=paused),
        gr.update(interactive=running or paused),
    ]


#: Update of a button that cannot be pressed.
_OFF = gr.update(interactive=False)


#: The buttons while nothing runs.
_AT_REST = tuple(_buttons("done", over=True))


def _wire(handlers: Handlers, controls: Controls, results: Results, owner: gr.BrowserState) -> None:
    started = gr.on(
        [controls.start.click, controls.resume.click],
        handlers.caption_all,
        {owner, *controls.inputs},
        [*results.outputs, *controls.buttons],
        show_progress_on=[results.progress],
        api_visibility="private",
        **BATCH_QUEUE,
    )
    started.failure(lambda: _AT_REST, None, controls.buttons, **PAGE_EVENT)
    both = [controls.pause, controls.cancel]
    controls.pause.click(handlers.pause, results.run, both, **PAGE_EVENT)
    controls.cancel.click(handlers.cancel, results.run, controls.buttons, **PAGE_EVENT)
    model = controls.picker.dropdown
    controls.examples.click(handlers.take_examples, model, controls.files, **PAGE_EVENT)
