"""Search in one's own pictures and videos: an index that is filled, asked and emptied here."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from components.search_handlers import Handlers
from components.widgets.common import (
    BATCH_QUEUE,
    DEVICE_QUEUE,
    LOOKUP_QUEUE,
    PAGE_EVENT,
    ModelPicker,
    browser_secret,
    model_picker,
    wire_model_picker,
)
from components.widgets.examples import search_examples
from components.widgets.player import Player, frame_gallery, result_player
from pipelines.models.catalogue import CATALOGUE, Task
from pipelines.serving.store import PipelineStore

TASK: Task = "video-text"

LEAD = (
    "Find pictures, and moments in videos, among files of your own: with words, with a picture, or "
    "with both. A file is looked at once; only this browser finds your index again."
)

HOW_TO_READ = (
    "Pictures are compared by a model for pictures, videos in windows of four seconds by a model "
    "that sees motion. **Strength** says how far a result stands out: 100 % is the best of its "
    "kind, 0 % is what the rest of your index reaches. Shown is what comes near the best, and "
    "whatever is a clear match. **Verdict** says whether it fits at all; for words and a picture "
    "together there is none. Near-duplicates are folded: “and 3 alike”."
)

EMPTY = (
    "<p class='empty'>Add pictures or videos to your index, write what to look for, press Search. "
    "Or use the examples.</p>"
)

NO_FILES = "<p class='holding'>Nothing is indexed before you add it.</p>"


@dataclass(frozen=True)
class Filling:
    """What brings files into the index and takes them out."""

    files: gr.File
    examples: gr.Button
    add: gr.Button
    stop: gr.Button
    status: gr.HTML
    names: gr.Dropdown
    delete: gr.Button
    delete_all: gr.Button

    @property
    def shown(self) -> list[Any]:
        """What tells of the index."""
        return [self.status, self.names]


@dataclass(frozen=True)
class Asking:
    """What is looked for, and with what."""

    text: gr.Textbox
    image: gr.Image
    run: gr.Button
    stop: gr.Button
    weight: gr.Slider
    top_k: gr.Slider
    pictures: ModelPicker
    videos: ModelPicker

    @property
    def inputs(self) -> list[Any]:
        """The inputs of a search, in order."""
        models = [self.pictures.dropdown, self.videos.dropdown]
        return [self.text, self.image, self.weight, self.top_k, *models]


@dataclass(frozen=True)
class Results:
    """What is found. `found` holds path, start and whether it is a video, of each."""

    notices: gr.HTML
    picture: gr.Image
    player: Player
    gallery: gr.Gallery
    table: gr.HTML
    csv: gr.DownloadButton
    found: gr.State

    @property
    def outputs(self) -> list[Any]:
        """The outputs of a search, in order."""
        return [
            self.notices, self.picture, self.player, self.gallery, self.table, self.csv, self.found,
        ]  # fmt: skip


def build(store: PipelineStore, page: gr.Blocks) -> None:
    """Lay out the tab."""
    with gr.Tab("Search", id="search") as tab:
        gr.Markdown(LEAD, elem_classes="lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                filling, asking = _lay_out_controls()
            with gr.Column(scale=6, min_width=300):
                results = _lay_out_results()
    wire_model_picker(store, "image-text", asking.pictures, page)
    wire_model_picker(store, "video-text", asking.videos, page)
    owner = browser_secret(page, "seesay-search")
    handlers = Handlers(store)
    tab.select(handlers.tell, owner, filling.shown, **PAGE_EVENT)
    _wire_filling(handlers, filling, asking, results, owner)
    _wire_asking(handlers, asking, results, owner)


def _lay_out_controls() -> tuple[Filling, Asking]:
    files = gr.File(label="Pictures and videos", file_count="multiple", height=150)
    with gr.Row():
        add = gr.Button("Add to index", min_width=140)
        examples = gr.Button("Use examples", min_width=140)
        stop_adding = gr.Button("Stop adding", min_width=110, visible=False)
    status = gr.HTML(NO_FILES, padding=False)
    text = gr.Textbox(label="Look for", placeholder="a red circle moves to the left", max_lines=4)
    with gr.Row():
        run = gr.Button("Search", variant="primary", elem_classes="go")
        stop = gr.Button("Stop", min_width=80, scale=0)
    with gr.Accordion("Like this picture", open=False):
        image = gr.Image(
            label="Picture",
            alt_text="Picture",
            type="filepath",
            height=200,
            sources=["upload", "clipboard"],
        )
        weight = gr.Slider(
            0, 1, 0.5, step=0.05, label="Words or picture",
            info="Where both are given: 0 looks for the picture only, 1 for the words only.",
        )  # fmt: skip
    with gr.Accordion("Options", open=False):
        top_k = gr.Slider(1, 100, 20, step=1, label="Most results")
        pictures = model_picker("image-text", "Model for pictures")
        videos = model_picker("video-text", "Model for videos")
    with gr.Accordion("Delete from the index", open=False):
        names = gr.Dropdown(
            [], value=[], multiselect=True, allow_custom_value=True, label="Files in the index"
        )
        with gr.Row():
            delete = gr.Button("Delete these", size="sm", min_width=120)
            delete_all = gr.Button("Delete the whole index", size="sm", min_width=160)
    filling = Filling(files, examples, add, stop_adding, status, names, delete, delete_all)
    return filling, Asking(text, image, run, stop, weight, top_k, pictures, videos)


def _lay_out_results() -> Results:
    notices = gr.HTML(visible=False, padding=False)
    picture = gr.Image(
        label="Picture",
        alt_text="Picture",
        height=300,
        interactive=False,
        visible=False,
        buttons=["fullscreen"],
    )
    player = result_player()
    gallery = frame_gallery("Found: click one to open it")
    table = gr.HTML(EMPTY, padding=False)
    csv = gr.DownloadButton("CSV", visible=False, size="sm", min_width=100)
    with gr.Accordion("How to read the results", open=False):
        gr.Markdown(HOW_TO_READ)
    return Results(notices, picture, player, gallery, table, csv, gr.State([]))


def _wire_filling(
    handlers: Handlers, filling: Filling, asking: Asking, results: Results, owner: gr.BrowserState
) -> None:
    """Wire what changes the index."""
    models = [asking.pictures.dropdown, asking.videos.dropdown]
    buttons = [filling.add, filling.examples, filling.stop]
    running = []

    def add_after(event: Any) -> Any:
        added = event(
            handlers.add,
            [filling.files, owner, *models],
            [*filling.shown, *buttons],
            show_progress_on=[filling.status],
            api_visibility="private",
            **BATCH_QUEUE,
        )
        # a run that is stopped counts as failed, and comes here once it is over
        added.failure(handlers.ended, owner, [*filling.shown, *buttons], **PAGE_EVENT)
        running.append(added)
        return added

    add_after(filling.add.click)
    demo, filmed = search_examples()

    def take(key: str) -> tuple[list[str], str]:
        return demo if CATALOGUE[key].demo else filmed

    taken = filling.examples.click(
        take, asking.pictures.dropdown, [filling.files, asking.text], **PAGE_EVENT
    )
    add_after(taken.success).success(
        handlers.search,
        [owner, *asking.inputs],
        results.outputs,
        show_progress_on=[results.table],
        api_visibility="private",
        **DEVICE_QUEUE,
    )
    filling.stop.click(None, cancels=running, api_visibility="private")
    queue = {"api_visibility": "private", **LOOKUP_QUEUE}
    filling.delete.click(handlers.delete, [owner, filling.names], filling.shown, **queue)
    filling.delete_all.click(handlers.delete_all, owner, filling.shown, **queue)


def _wire_asking(
    handlers: Handlers, asking: Asking, results: Results, owner: gr.BrowserState
) -> None:
    """Wire what asks the index."""
    start = partial(gr.on, [asking.run.click, asking.text.submit])
    searched = start(
        handlers.search,
        [owner, *asking.inputs],
        results.outputs,
        show_progress_on=[results.table],
        scroll_to_output=True,
        api_visibility="private",
        **DEVICE_QUEUE,
    )
    asking.stop.click(None, cancels=searched, api_visibility="private")
    results.gallery.select(
        handlers.open, results.found, [results.picture, results.player], **PAGE_EVENT
    )
