"""Texts and images compared: a ranking, a matrix, vectors as a file."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.server.uploads import Uploads, one_query
from components.widgets.examples import (
    example_strip,
    similarity_examples,
    wire_example_strip,
)
from components.widgets.layout import HIDDEN, hidden_html, offer, two_columns
from components.widgets.model_lease import lease
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.queues import BATCHED_QUEUE, PAGE_EVENT
from pipelines.core.errors import InputError
from pipelines.core.results import Embeddings
from pipelines.core.spec import Task
from pipelines.core.text import split_lines
from pipelines.media.images import NamedImage
from pipelines.models.notes import repeated_notes

TASK: Task = "image-text"

#: Images in the gallery of a ranking.
PICTURES_SHOWN = 60

EMPTY = paragraph(
    "Give a text or a picture, and texts or pictures to compare it with; "
    "then press Rank. Or start with one of the examples."
)


class Controls:
    """What a visitor sets."""

    def __init__(self) -> None:
        with gr.Group():
            self.text = gr.Textbox(
                label="Query: a text", placeholder="a red circle above a blue square"
            )
            with gr.Accordion("… or a picture as the query", open=False):
                self.image = gr.Image(
                    type="filepath",
                    image_mode=None,  # the file as it is: every mode is brought to RGB later
                    show_label=False,
                    height=220,
                    sources=["upload", "clipboard"],
                )
        self.texts = gr.Textbox(
            label="Compare with texts",
            lines=3,
            max_lines=10,
            info="One per line.",
            placeholder="a green star\na blue square\nthree circles",
        )
        self.files = gr.File(
            label="Compare with pictures", file_count="multiple", file_types=["image"], height=150
        )
        self.strip = example_strip(lambda: gr.Textbox(render=False), *similarity_examples())
        self.rank = gr.Button("Rank", variant="primary", elem_classes="go")
        with gr.Row():
            self.matrix = gr.Button("Matrix: all texts × all pictures", size="sm", min_width=140)
            self.embed = gr.Button("Embeddings as a file (.npz)", size="sm", min_width=140)
        self.picker = ModelPicker(TASK)

    @property
    def asked(self) -> list[Any]:
        """The inputs of every handler, in order."""
        return [self.text, self.image, self.texts, self.files, self.picker.dropdown]


class Results:
    """What a visitor gets."""

    def __init__(self) -> None:
        self.notices = hidden_html()
        self.gallery = gr.Gallery(
            label="Pictures, best first",
            show_label=False,
            visible=False,
            columns=4,
            height="auto",
            object_fit="contain",
            interactive=False,
            elem_classes="ranked",
        )
        self.table = gr.HTML(EMPTY, padding=False)
        self.csv = gr.DownloadButton("Download as CSV", visible=False, size="sm")
        self.npz = gr.DownloadButton("Download embeddings.npz", visible=False, size="sm")
        self.outputs: list[Any] = [self.notices, self.gallery, self.table, self.csv, self.npz]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    with gr.Tab("Similarity", id="similarity"):
        gr.Markdown(
            "What is most like this? Compare a text or a picture with many others.",
            elem_classes="lead",
        )
        controls, results = two_columns(Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    _wire(Handlers(services), controls, results)


#: Values of the outputs that change nothing.
_NOTHING = (gr.skip(),) * 5


class Handlers:
    """Handlers of the events; each yields the values of `Results.outputs`."""

    def __init__(self, services: Services) -> None:
        self._store, self._settings = services.store, services.store.settings
        self._uploads = Uploads(self._settings)

    @show_errors
    def rank(
        self,
        text: str,
        image: str | None,
        texts: str,
        files: list[str] | None,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        """Rank the texts and images by their similarity to the query."""
        query = one_query(text, self._uploads.image(image, "The query"))
        images = self._uploads.images(files, "pictures")
        lines, repeated = split_lines(texts, "texts") if texts.strip() else ([], [])
        spec = self._store.resolve(key, TASK)
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING, lambda clip: clip.prepare(lines, images), progress)
            answer = held.pipeline.rank(query, lines, images)
        ranked = [
            (str(images[row.index].path), f"{row.rank} · {say(row.verdict)}")
            for row in answer.rows
            if row.kind == "image" and row.cosine is not None
        ]
        yield (
            notices_of(self._store, spec, [*answer.notes, *repeated_notes(repeated)]),
            gr.update(value=ranked[:PICTURES_SHOWN], visible=bool(ranked)),
            fmt.ranking_table(answer),
            offer(self._settings, "ranking.csv", fmt.ranking_csv(answer)),
            HIDDEN,
        )

    @show_errors
    def matrix(
        self,
        text: str,
        image: str | None,
        texts: str,
        files: list[str] | None,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        """Compare all texts with all images."""
        lines, images = self._everything(text, image, texts, files)
        spec = self._store.resolve(key, TASK)
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING, lambda clip: clip.prepare(lines, images), progress)
            answer = held.pipeline.matrix(lines, images)
        notices = notices_of(self._store, spec, answer.notes)
        csv = offer(self._settings, "matrix.csv", fmt.matrix_csv(answer))
        yield notices, HIDDEN, fmt.matrix_table(answer), csv, HIDDEN

    @show_errors
    def embed(
        self,
        text: str,
        image: str | None,
        texts: str,
        files: list[str] | None,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        """Write the vectors of all texts and images to a file."""
        lines, images = self._everything(text, image, texts, files)
        spec = self._store.resolve(key, TASK)
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING, lambda clip: clip.prepare(lines, images), progress)
            clip = held.pipeline
            parts: list[Embeddings] = [clip.embed_texts(lines)] if lines else []
            parts += [clip.embed_images(images)] if images else []
        notes = [note for part in parts for note in part.notes]
        notes += [reason for part in parts for _, reason in part.errors]
        npz = offer(self._settings, "embeddings.npz", fmt.embeddings_npz(parts))
        notices = notices_of(self._store, spec, notes)
        yield notices, HIDDEN, fmt.embeddings_summary(parts), HIDDEN, npz

    def _everything(
        self, text: str, image: str | None, texts: str, files: list[str] | None
    ) -> tuple[list[str], list[NamedImage]]:
        joined = "\n".join(part for part in (text, texts) if part.strip())
        lines = split_lines(joined, "texts")[0] if joined else []
        query = self._uploads.image(image, "The query")
        images = ([query] if query else []) + self._uploads.images(files, "pictures")
        if not lines and not images:
            raise InputError("There is nothing to compare. Give texts, pictures, or both.")
        return lines, images


def _wire(handlers: Handlers, controls: Controls, results: Results) -> None:
    ask: dict[str, Any] = {
        "inputs": controls.asked,
        "outputs": results.outputs,
        "show_progress_on": [results.table],
        "scroll_to_output": True,
        "api_visibility": "private",
        **BATCHED_QUEUE,
    }

    def run_after(event: Any) -> None:
        event(fn=handlers.rank, **ask)

    run_after(partial(gr.on, [controls.rank.click, controls.text.submit]))
    controls.matrix.click(fn=handlers.matrix, **ask)
    controls.embed.click(fn=handlers.embed, **ask)
    for strip in controls.strip.strips:
        strip.click(lambda: None, None, controls.image, **PAGE_EVENT)
    wire_example_strip(
        controls.strip,
        [controls.text, controls.texts, controls.files],
        controls.picker.dropdown,
        lambda filled: run_after(filled.then),
    )
