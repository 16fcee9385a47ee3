"""Thousands of pictures in words: upload, watch, pause, take the results home."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.jobs.batch_order import is_over, make_order, note_over, wish, wished
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
from components.server.uploads import Uploads
from components.widgets.common import (
    BATCH_QUEUE,
    PAGE_EVENT,
    ModelPicker,
    badge,
    browser_secret,
    is_demo,
    model_picker,
    wire_model_picker,
)
from components.widgets.examples import batch_examples
from components.widgets.generation import GenerationControls, generation_settings, wire_longest
from pipelines.batch.job import BatchJob, BatchProgress
from pipelines.core.errors import InputError
from pipelines.core.spec import Task
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

    def show(self, look: BatchProgress, state: State) -> tuple[Any, ...]:
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


def _downloads(look: BatchProgress) -> list[Any]:
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


@dataclass(frozen=True)
class Controls:
    """What a visitor sets."""

    files: gr.File
    examples: gr.Button
    prompt: gr.Textbox
    picker: ModelPicker
    settings: GenerationControls
    start: gr.Button
    pause: gr.Button
    resume: gr.Button
    cancel: gr.Button

    @property
    def buttons(self) -> list[Any]:
        """The buttons in the order in which a run sets them."""
        return [self.start, self.pause, self.resume, self.cancel]


@dataclass(frozen=True)
class Results:
    """What a visitor sees of a run; `run` names it, for this visitor only."""

    run: gr.State
    progress: gr.HTML
    notices: gr.HTML
    pictures: gr.HTML
    table: gr.HTML
    downloads: tuple[gr.DownloadButton, ...]

    @property
    def outputs(self) -> list[Any]:
        """The components in the order in which a run sets them."""
        shown = [self.run, self.progress, self.notices, self.pictures, self.table]
        return [*shown, *self.downloads]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    store = services.store
    with gr.Tab("Batch", id="batch"):
        gr.Markdown(LEAD, elem_classes="lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls = _lay_out_controls()
            with gr.Column(scale=6, min_width=300):
                results = _lay_out_results()
    wire_model_picker(store, TASK, controls.picker, page)
    wire_longest(controls.settings, controls.picker.dropdown, page)
    owner = browser_secret(page, "seesay-batch")
    run = make_handler(
        store, controls.files, controls.prompt, controls.picker.dropdown, controls.settings, owner
    )
    started = gr.on(
        [controls.start.click, controls.resume.click],
        run,
        {
            owner,
            controls.files,
            controls.prompt,
            controls.picker.dropdown,
            *controls.settings.inputs,
        },
        [*results.outputs, *controls.buttons],
        show_progress_on=[results.progress],
        api_visibility="private",
        **BATCH_QUEUE,
    )
    started.failure(buttons_at_rest, None, controls.buttons, **PAGE_EVENT)
    _wire_ending(store, controls, results)
    drawn, photos = batch_examples()

    def take_examples(key: str) -> list[str]:
        return drawn if is_demo(key) else photos

    controls.examples.click(take_examples, controls.picker.dropdown, controls.files, **PAGE_EVENT)


def buttons_at_rest() -> tuple[Any, ...]:
    """Return the buttons as they are while nothing runs."""
    off = gr.update(interactive=False)
    hidden = gr.update(visible=False)
    return gr.update(interactive=True), gr.update(visible=True, interactive=False), hidden, off


def _wire_ending(store: PipelineStore, controls: Controls, results: Results) -> None:
    """Let Pause and Cancel end the run of this visitor; Cancel also lets go of a paused one."""
    asked = gr.update(interactive=False), gr.update(interactive=False)

    @show_errors
    def pause(run: str) -> tuple[Any, ...]:
        _check_known(run)
        if wish(store.settings, run, "pause") or not is_over(store.settings, run):
            return asked
        return gr.skip(), gr.skip()

    @show_errors
    def cancel(run: str) -> tuple[Any, ...]:
        _check_known(run)
        if wish(store.settings, run, "cancel") or not is_over(store.settings, run):
            return gr.skip(), asked[0], gr.skip(), asked[1]
        return buttons_at_rest()

    both = [controls.pause, controls.cancel]
    controls.pause.click(pause, results.run, both, **PAGE_EVENT)
    controls.cancel.click(cancel, results.run, controls.buttons, **PAGE_EVENT)


def _check_known(run: str) -> None:
    """Check that the name of a run, which is in a `gr.State`, is still there.

    Raises:
        InputError: Gradio has given it up.
    """
    if not run:
        raise InputError(
            "The server no longer knows which run this page shows, and cannot end it from here. "
            "Reload the page: that ends it. Then start the same pictures again; only what is "
            "missing is done.",
            title="Deleted meanwhile",
        )


def _lay_out_controls() -> Controls:
    files = gr.File(
        label="Pictures, or one zip of pictures",
        file_count="multiple",
        height=190,
    )
    examples = gr.Button("Take the example pictures", size="sm")
    prompt = gr.Textbox(
        label="Begin with",
        placeholder="Optional: words that every caption goes on from, such as: a photo of",
        max_lines=4,
    )
    picker = model_picker(TASK)
    settings = generation_settings(40)
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_classes="go", min_width=90)
        pause = gr.Button("Pause", interactive=False, min_width=90)
        resume = gr.Button("Resume", visible=False, variant="primary", min_width=90)
        cancel = gr.Button("Cancel", interactive=False, min_width=90)
    return Controls(files, examples, prompt, picker, settings, start, pause, resume, cancel)


def _lay_out_results() -> Results:
    run = gr.State("")
    progress = gr.HTML(EMPTY, padding=False)
    with gr.Row(elem_classes="downloads"):
        downloads = tuple(
            gr.DownloadButton(label, visible=False, size="sm", min_width=140) for label in FILES
        )
    notices = gr.HTML(visible=False, padding=False)
    pictures = gr.HTML(visible=False, padding=False)
    table = gr.HTML(visible=False, padding=False)
    assert len(downloads) == NUM_FILES
    return Results(run, progress, notices, pictures, table, downloads)
