"""Search in one's own images and videos: files are added to an index, found, deleted."""

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from components.jobs.search_run import make_order, search
from components.render import scores as fmt
from components.render.html import paragraph
from components.render.search import (
    caption,
    found_csv,
    found_table,
    holding_line,
    outcome_summary,
    progress_line,
)
from components.server.blocks import show_errors
from components.server.services import Services
from components.widgets.examples import search_examples
from components.widgets.layout import (
    HIDDEN,
    TabHandlers,
    browser_secret,
    download_button,
    hidden_html,
    lay_out_tab,
    offer,
    run_and_stop,
)
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.player import chosen_of, frame_gallery, result_player
from components.widgets.queues import (
    BATCH_QUEUE,
    DEVICE_QUEUE,
    LOOKUP_QUEUE,
    PAGE_EVENT,
    page_request,
)
from pipelines.core.errors import InputError, PipelineError
from pipelines.core.messages import Message
from pipelines.core.results import FileKind
from pipelines.core.spec import Task
from pipelines.media.thumbnails import SIDE_PX, video_thumbnails
from pipelines.models.catalogue import CATALOGUE
from pipelines.search.index_run import add_files
from pipelines.search.indexes import DELETE_WAIT_S, owner_of
from pipelines.search.query import Query, delete_files
from pipelines.search.results import FileOutcome, FoundFile, SearchResult

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

EMPTY = paragraph(
    "Add pictures or videos to your index, write what to look for, press Search. "
    "Or use the examples."
)

NO_FILES = paragraph("Nothing is indexed before you add it.", "holding")

#: Names of files that the list for deleting offers; others can be typed.
NAMES_SHOWN = 500


class Controls:
    """Input components: files of the index, and the query."""

    def __init__(self) -> None:
        self.files = gr.File(label="Pictures and videos", file_count="multiple", height=150)
        with gr.Row():
            self.add = gr.Button("Add to index", min_width=140)
            self.examples = gr.Button("Use examples", min_width=140)
            self.stop_adding = gr.Button("Stop adding", min_width=110, visible=False)
        self.status = gr.HTML(NO_FILES, padding=False)
        self.text = gr.Textbox(
            label="Look for", placeholder="a red circle moves to the left", max_lines=4
        )
        self.run, self.stop = run_and_stop("Search")
        with gr.Accordion("Like this picture", open=False):
            self.image = gr.Image(
                label="Picture",
                alt_text="Picture",
                type="filepath",
                height=200,
                sources=["upload", "clipboard"],
            )
            self.weight = gr.Slider(
                0, 1, 0.5, step=0.05, label="Words or picture",
                info="Where both are given: 0 looks for the picture only, 1 for the words only.",
            )  # fmt: skip
        with gr.Accordion("Options", open=False):
            self.top_k = gr.Slider(1, 100, 20, step=1, label="Most results")
            self.pictures = ModelPicker("image-text", "Model for pictures")
            self.videos = ModelPicker("video-text", "Model for videos")
        with gr.Accordion("Delete from the index", open=False):
            self.names = gr.Dropdown(
                [], value=[], multiselect=True, allow_custom_value=True, label="Files in the index"
            )
            with gr.Row():
                self.delete = gr.Button("Delete these", size="sm", min_width=120)
                self.delete_all = gr.Button("Delete the whole index", size="sm", min_width=160)
        self.shown: list[Any] = [self.status, self.names]  # what shows the index
        self.buttons: list[Any] = [self.add, self.examples, self.stop_adding]
        models = {self.pictures.dropdown, self.videos.dropdown}
        self.added: set[Any] = {self.files, *models}
        self.asked: set[Any] = {self.text, self.image, self.weight, self.top_k, *models}


class Results:
    """What is found. `found` holds path, start and whether it is a video, of each."""

    def __init__(self) -> None:
        self.notices = hidden_html()
        self.picture = gr.Image(
            label="Picture",
            alt_text="Picture",
            height=300,
            interactive=False,
            visible=False,
            buttons=["fullscreen"],
        )
        self.player = result_player()
        self.gallery = frame_gallery("Found: click one to open it")
        self.table = gr.HTML(EMPTY, padding=False)
        self.csv = download_button("CSV", 100)
        with gr.Accordion("How to read the results", open=False):
            gr.Markdown(HOW_TO_READ)
        self.found = gr.State([])
        shown = [self.notices, self.picture, self.player, self.gallery, self.table]
        self.outputs: list[Any] = [*shown, self.csv, self.found]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    tab, controls, results = lay_out_tab("Search", LEAD, Controls, Results)
    wire_model_picker(services.store, "image-text", controls.pictures, page)
    wire_model_picker(services.store, "video-text", controls.videos, page)
    owner = browser_secret(page, "seesay-search")
    handlers = Handlers(services, controls, owner)
    tab.select(handlers.holding, owner, controls.shown, **PAGE_EVENT)
    search = page_request(
        handlers.search, {owner, *controls.asked}, results.outputs, results.table, DEVICE_QUEUE
    )
    _wire_index(handlers, controls, owner, {**search, "scroll_to_output": False})
    searched = gr.on([controls.run.click, controls.text.submit], **search)
    controls.stop.click(None, cancels=searched, api_visibility="private")
    opened = [results.picture, results.player]
    results.gallery.select(handlers.open, results.found, opened, **PAGE_EVENT)


class Handlers(TabHandlers[Controls]):
    """Handlers of the events."""

    def __init__(self, services: Services, controls: Controls, owner: gr.BrowserState) -> None:
        super().__init__(services, controls)
        self._owner = owner  # holds the key of the visitor's index

    @show_errors
    def holding(self, key: str) -> tuple[Any, Any]:
        """Return what the index holds, and the names of its files."""
        return self._holding(key) if key else (gr.skip(), gr.skip())

    @show_errors
    def add(self, values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        """Add files to the index; yields how far it is."""
        controls, key = self._controls, values[self._owner]
        models = [values[one.dropdown] for one in (controls.pictures, controls.videos)]
        order = make_order(self._store, self._uploads, values[controls.files], key, *models)
        outcomes: dict[int, FileOutcome] = {}
        sent = ""
        with closing(add_files(self._store, self._indexes, order)) as run:
            for progress in run:
                outcomes.update(progress.new)
                line = progress_line(progress.done, progress.total, progress.stage)
                yield (gr.skip() if line == sent else line), gr.skip(), *_buttons(running=True)
                sent = line
        summary = outcome_summary([outcomes[index] for index in sorted(outcomes)])
        holding, names = self._holding(key)
        yield holding + summary, names, *_buttons(running=False)

    @show_errors
    def ended(self, key: str) -> tuple[Any, ...]:
        """Return what the index holds after a run that was stopped, or failed."""
        return *self._holding(key), *_buttons(running=False)

    @show_errors
    def delete(self, key: str, names: list[str]) -> tuple[Any, Any]:
        """Delete files from the index."""
        if not names:
            raise InputError("Nothing is chosen. Choose files of the index, then press Delete.")
        deleted = delete_files(self._indexes, owner_of(key), names, DELETE_WAIT_S)
        return self._less(key, len(deleted))

    @show_errors
    def delete_all(self, key: str) -> tuple[Any, Any]:
        """Delete the whole index."""
        return self._less(key, self._indexes.forget(owner_of(key), DELETE_WAIT_S))

    def _less(self, key: str, count: int) -> tuple[Any, Any]:
        holding, left = self._holding(key)
        return holding + fmt.notices([Message("{count:,} files deleted.", count=count)]), left

    @show_errors
    def search(self, values: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `Results.outputs`, with what fits the text, the image or both."""
        controls, image = self._controls, values[self._controls.image]
        query = Query(
            text=values[controls.text] or "",
            image=self._uploads.path(image, "The picture") if image else None,
            text_weight=values[controls.weight],
            top_k=values[controls.top_k],
        )
        models: dict[FileKind, str] = {
            "picture": values[controls.pictures.dropdown],
            "video": values[controls.videos.dropdown],
        }
        for found in search(self._store, self._indexes, values[self._owner], query, models):
            yield (gr.skip(),) * 7 if found is None else self._shown(found, models)

    @show_errors
    def open(self, found: list[tuple[str, float, bool]], event: gr.SelectData) -> tuple[Any, Any]:
        """Show a result: a picture, or a video at its moment."""
        path, start_s, is_video = chosen_of(found, int(event.index))
        if self._there(path) is None:
            raise InputError(
                "The file itself is no longer here, only its thumbnail. Add it again to open it: "
                "it is not processed again.",
                title="Deleted meanwhile",
            )
        return _opened(path, start_s, is_video)

    def _holding(self, key: str) -> tuple[Any, Any]:
        owner = owner_of(key)
        line = holding_line(self._indexes.summary(owner), self._settings.index_hours)
        return line, gr.update(choices=self._indexes.names(owner)[:NAMES_SHOWN], value=[])

    def _there(self, path: str) -> Path | None:
        """Return where an indexed file lies, None where its upload has been deleted."""
        try:
            return self._uploads.path(path, "The file")
        except PipelineError:
            return None

    def _shown(self, found: SearchResult, models: dict[FileKind, str]) -> tuple[Any, ...]:
        spec = self._store.resolve(models["picture"], "image-text")
        notices = notices_of(self._store, spec, found.notes)
        if not found.found:
            nothing = paragraph("Nothing stands out from the rest of your index.")
            return notices, HIDDEN, HIDDEN, HIDDEN, nothing, HIDDEN, []
        captions = [caption(rank, one) for rank, one in enumerate(found.found, start=1)]
        images = list(zip(self._thumbnails(found.found), captions, strict=True))
        opened = [(one.file.path, one.start_s, one.file.kind == "video") for one in found.found]
        first = opened[0] if self._there(opened[0][0]) else ("", 0.0, False)
        return (
            notices,
            *_opened(*first),
            gr.update(value=images, visible=True, selected_index=None),
            found_table(found),
            offer(self._settings, "found.csv", found_csv(found)),
            opened,
        )

    def _thumbnails(self, found: Sequence[FoundFile]) -> list[Image.Image]:
        """Return a thumbnail of each result: of a video at its moment while its file is here."""
        times: dict[str, list[float]] = {}
        for one in found:
            if one.file.kind == "video":
                times.setdefault(one.file.path, []).append((one.start_s + one.end_s) / 2)
        frames = {
            path: iter(video_thumbnails(there, moments))
            for path, moments in times.items()
            if (there := self._there(path)) is not None
        }
        return [
            _as_image(next(frames.get(one.file.path, iter(())), b"") or one.file.thumbnail)
            for one in found
        ]


def _as_image(jpeg: bytes) -> Image.Image:
    """Return a thumbnail as an image, a grey one where there is none."""
    if not jpeg:
        return Image.new("RGB", (SIDE_PX, SIDE_PX * 3 // 4), "#808080")
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def _opened(path: str, start_s: float, is_video: bool) -> tuple[Any, Any]:
    """Return the picture and the player with a result in one of them."""
    hidden = gr.update(value=None, visible=False)
    if not path:
        return hidden, hidden
    if is_video:
        return hidden, gr.update(value=path, visible=True, playback_position=start_s)
    return gr.update(value=path, visible=True), hidden


def _buttons(*, running: bool) -> tuple[Any, Any, Any]:
    idle = gr.update(visible=not running)
    return idle, idle, gr.update(visible=running)


def _wire_index(
    handlers: Handlers, controls: Controls, owner: gr.BrowserState, search: dict[str, Any]
) -> None:
    """Wire what changes the index; after the examples were added, `search` follows."""
    outputs = [*controls.shown, *controls.buttons]
    demo, filmed = search_examples()
    taken = controls.examples.click(
        lambda key: demo if CATALOGUE[key].demo else filmed,
        controls.pictures.dropdown,
        [controls.files, controls.text],
        **PAGE_EVENT,
    )
    running = [
        start(
            handlers.add,
            {owner, *controls.added},
            outputs,
            show_progress_on=[controls.status],
            api_visibility="private",
            **BATCH_QUEUE,
        )
        for start in (controls.add.click, taken.success)
    ]
    for added in running:
        # a run that is stopped counts as failed, and comes here once it is over
        added.failure(handlers.ended, owner, outputs, **PAGE_EVENT)
    running[1].success(**search)
    controls.stop_adding.click(None, cancels=running, api_visibility="private")
    queue = {"api_visibility": "private", **LOOKUP_QUEUE}
    controls.delete.click(handlers.delete, [owner, controls.names], controls.shown, **queue)
    controls.delete_all.click(handlers.delete_all, owner, controls.shown, **queue)
