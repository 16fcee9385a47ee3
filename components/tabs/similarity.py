"""Texts and images compared: a ranking, a matrix, vectors to take away."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.server.uploads import Uploads, one_query
from components.widgets.common import (
    BATCHED_QUEUE,
    PAGE_EVENT,
    ExampleStrip,
    ModelPicker,
    badge,
    example_strip,
    model_picker,
    save_result,
    wire_example_strip,
    wire_model_picker,
    worked_off,
)
from components.widgets.examples import similarity_examples
from components.widgets.model_lease import lease
from pipelines.core.errors import InputError
from pipelines.core.results import Ranking
from pipelines.core.spec import Task
from pipelines.core.text import split_lines
from pipelines.media.named_image import NamedImage
from pipelines.models.notes import repeated_notes
from pipelines.serving.store import PipelineStore

TASK: Task = "image-text"

#: Pictures in the gallery of a ranking.
PICTURES_SHOWN = 60

EMPTY = paragraph(
    "Give a text or a picture, and texts or pictures to compare it with; "
    "then press Rank. Or start with one of the examples."
)


@dataclass(frozen=True)
class Controls:
    """What a person sets."""

    text: gr.Textbox
    image: gr.Image
    texts: gr.Textbox
    files: gr.File
    strip: ExampleStrip
    rank: gr.Button
    matrix: gr.Button
    embed: gr.Button
    picker: ModelPicker

    @property
    def asked(self) -> list[Any]:
        """The inputs of every handler, in order."""
        return [self.text, self.image, self.texts, self.files, self.picker.dropdown]


@dataclass(frozen=True)
class Results:
    """What a person gets."""

    notices: gr.HTML
    gallery: gr.Gallery
    table: gr.HTML
    csv: gr.DownloadButton
    npz: gr.DownloadButton

    @property
    def shown(self) -> list[Any]:
        """The outputs of every handler, in order."""
        return [self.notices, self.gallery, self.table, self.csv, self.npz]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out the tab."""
    store = services.store
    with gr.Tab("Similarity", id="similarity"):
        gr.Markdown(
            "What is most like this? Compare a text or a picture with many others.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls = _lay_out_controls()
            with gr.Column(scale=6, min_width=300):
                results = _lay_out_results()
    wire_model_picker(store, TASK, controls.picker, page)
    _wire(store, controls, results)


def _lay_out_controls() -> Controls:
    with gr.Group():
        text = gr.Textbox(label="Query: a text", placeholder="a red circle above a blue square")
        with gr.Accordion("… or a picture as the query", open=False):
            image = gr.Image(
                type="filepath",
                image_mode=None,  # the file as it is: every mode is brought to RGB later
                show_label=False,
                height=220,
                sources=["upload", "clipboard"],
            )
    texts = gr.Textbox(
        label="Compare with texts",
        lines=3,
        max_lines=10,
        info="One per line.",
        placeholder="a green star\na blue square\nthree circles",
    )
    files = gr.File(
        label="Compare with pictures", file_count="multiple", file_types=["image"], height=150
    )
    strip = example_strip(lambda: gr.Textbox(render=False), *similarity_examples())
    rank = gr.Button("Rank", variant="primary", elem_classes="go")
    with gr.Row():
        matrix = gr.Button("Matrix: all texts × all pictures", size="sm", min_width=140)
        embed = gr.Button("Embeddings as a file (.npz)", size="sm", min_width=140)
    picker = model_picker(TASK)
    return Controls(text, image, texts, files, strip, rank, matrix, embed, picker)


def _lay_out_results() -> Results:
    notices = gr.HTML(visible=False, padding=False)
    gallery = gr.Gallery(
        label="Pictures, best first",
        show_label=False,
        visible=False,
        columns=4,
        height="auto",
        object_fit="contain",
        interactive=False,
        elem_classes="ranked",
    )
    table = gr.HTML(EMPTY, padding=False)
    csv = gr.DownloadButton("Download as CSV", visible=False, size="sm")
    npz = gr.DownloadButton("Download embeddings.npz", visible=False, size="sm")
    return Results(notices, gallery, table, csv, npz)


def _wire(store: PipelineStore, controls: Controls, results: Results) -> None:
    private: dict[str, Any] = {"api_visibility": "private", **BATCHED_QUEUE}
    ask: dict[str, Any] = {
        "inputs": controls.asked,
        "outputs": results.shown,
        "show_progress_on": [results.table],
        "scroll_to_output": True,
    }
    rank = _rank_handler(store)
    matrix, embed = _table_handlers(store)

    def run_after(event: Any) -> None:
        event(fn=rank, **ask, **private)

    run_after(partial(gr.on, [controls.rank.click, controls.text.submit]))
    controls.matrix.click(fn=matrix, **ask, **private)
    controls.embed.click(fn=embed, **ask, **private)
    for strip in controls.strip.strips:
        strip.click(lambda: None, None, controls.image, **PAGE_EVENT)
    wire_example_strip(
        controls.strip,
        [controls.text, controls.texts, controls.files],
        controls.picker.dropdown,
        lambda filled: run_after(filled.then),
    )


def _rank_handler(store: PipelineStore) -> Callable[..., Any]:
    uploads = Uploads(store.settings)

    @show_errors
    def rank(
        text: str,
        image: str | None,
        texts: str,
        files: list[str] | None,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        query = one_query(text, uploads.image(image, "The query"))
        images = uploads.images(files, "pictures")
        lines, repeated = split_lines(texts, "texts") if texts.strip() else ([], [])
        spec = store.resolve(key, TASK)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait((gr.skip(),) * 5)
            clip = lent.pipeline
            for _ in worked_off(clip.prepare(lines, images), progress):
                yield (gr.skip(),) * 5
            answer: Ranking = clip.rank(query, lines, images)
        csv = save_result(store.settings, "ranking.csv", fmt.ranking_csv(answer))
        pictures = [
            (str(images[row.index].path), f"{row.rank} · {say(row.verdict)}")
            for row in answer.rows
            if row.kind == "image" and row.cosine is not None
        ]
        yield (
            fmt.shown_if_any(
                fmt.notices([*answer.notes, *repeated_notes(repeated)], badge(store, spec))
            ),
            gr.update(value=pictures[:PICTURES_SHOWN], visible=bool(pictures)),
            fmt.ranking_table(answer),
            gr.update(value=csv, visible=True),
            gr.update(visible=False),
        )

    return rank


def _table_handlers(store: PipelineStore) -> tuple[Callable[..., Any], Callable[..., Any]]:
    uploads = Uploads(store.settings)

    def everything(
        text: str, image: str | None, texts: str, files: list[str] | None
    ) -> tuple[list[str], list[NamedImage]]:
        joined = "\n".join(part for part in (text, texts) if part.strip())
        lines = split_lines(joined, "texts")[0] if joined else []
        query = uploads.image(image, "The query")
        images = ([query] if query else []) + uploads.images(files, "pictures")
        if not lines and not images:
            raise InputError("There is nothing to compare. Give texts, pictures, or both.")
        return lines, images

    @show_errors
    def matrix(
        text: str,
        image: str | None,
        texts: str,
        files: list[str] | None,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        lines, images = everything(text, image, texts, files)
        spec = store.resolve(key, TASK)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait((gr.skip(),) * 5)
            clip = lent.pipeline
            for _ in worked_off(clip.prepare(lines, images), progress):
                yield (gr.skip(),) * 5
            answer = clip.matrix(lines, images)
        csv = save_result(store.settings, "matrix.csv", fmt.matrix_csv(answer))
        yield (
            fmt.shown_if_any(fmt.notices(answer.notes, badge(store, spec))),
            gr.update(visible=False),
            fmt.matrix_table(answer),
            gr.update(value=csv, visible=True),
            gr.update(visible=False),
        )

    @show_errors
    def embed(
        text: str,
        image: str | None,
        texts: str,
        files: list[str] | None,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        lines, images = everything(text, image, texts, files)
        spec = store.resolve(key, TASK)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait((gr.skip(),) * 5)
            clip = lent.pipeline
            for _ in worked_off(clip.prepare(lines, images), progress):
                yield (gr.skip(),) * 5
            parts = [clip.embed_texts(lines)] if lines else []
            parts += [clip.embed_images(images)] if images else []
        notes = [note for part in parts for note in part.notes]
        notes += [reason for part in parts for _, reason in part.errors]
        npz = save_result(store.settings, "embeddings.npz", fmt.embeddings_npz(parts))
        yield (
            fmt.shown_if_any(fmt.notices(notes, badge(store, spec))),
            gr.update(visible=False),
            fmt.embeddings_summary(parts),
            gr.update(visible=False),
            gr.update(value=npz, visible=True),
        )

    return matrix, embed
