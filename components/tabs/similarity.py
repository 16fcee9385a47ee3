"""Texts and images compared: a ranking, a matrix, vectors as a file."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.server.uploads import one_query
from components.widgets.examples import example_strip, similarity_examples, wire_example_strip
from components.widgets.layout import HIDDEN, TabHandlers, hidden_html, lay_out_tab, offer
from components.widgets.model_lease import lease
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.queues import BATCHED_QUEUE, PAGE_EVENT, page_request
from pipelines.core.errors import InputError
from pipelines.core.results import Embeddings
from pipelines.core.spec import ModelSpec, Task
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
    """Input components of the tab."""

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
        asked = {self.text, self.image, self.texts, self.files}
        self.inputs: set[Any] = {*asked, self.picker.dropdown}


class Results:
    """Output components of the tab."""

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
    lead = "What is most like this? Compare a text or a picture with many others."
    _, controls, results = lay_out_tab("Similarity", lead, Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    _wire(Handlers(services, controls), controls, results)


#: Values of the outputs that change nothing.
_NOTHING = (gr.skip(),) * 5


class Handlers(TabHandlers[Controls]):
    """Handlers of the events; each yields the values of `Results.outputs`."""

    @show_errors
    def rank(
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        """Rank the texts and images by their similarity to the query."""
        controls, texts = self._controls, values[self._controls.texts]
        image = self._uploads.image(values[controls.image], "The query")
        query = one_query(values[controls.text], image)
        images = self._uploads.images(values[controls.files], "pictures")
        lines, repeated = split_lines(texts, "texts") if texts.strip() else ([], [])
        spec = self._store.resolve(values[controls.picker.dropdown], TASK)
        answer = yield from self._compute(
            spec, lines, images, lambda clip: clip.rank(query, lines, images), progress
        )
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
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        """Compare all texts with all images."""
        spec, lines, images = self._everything(values)
        answer = yield from self._compute(
            spec, lines, images, lambda clip: clip.matrix(lines, images), progress
        )
        notices = notices_of(self._store, spec, answer.notes)
        csv = offer(self._settings, "matrix.csv", fmt.matrix_csv(answer))
        yield notices, HIDDEN, fmt.matrix_table(answer), csv, HIDDEN

    @show_errors
    def embed(
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        """Write the vectors of all texts and images to a file."""
        spec, lines, images = self._everything(values)

        def vectors(clip: Any) -> list[Embeddings]:
            parts = [clip.embed_texts(lines)] if lines else []
            return parts + ([clip.embed_images(images)] if images else [])

        parts = yield from self._compute(spec, lines, images, vectors, progress)
        notes = [note for part in parts for note in part.notes]
        notes += [reason for part in parts for _, reason in part.errors]
        npz = offer(self._settings, "embeddings.npz", fmt.embeddings_npz(parts))
        notices = notices_of(self._store, spec, notes)
        yield notices, HIDDEN, fmt.embeddings_summary(parts), HIDDEN, npz

    def _everything(self, values: dict[Any, Any]) -> tuple[ModelSpec, list[str], list[NamedImage]]:
        controls = self._controls
        texts = (values[controls.text], values[controls.texts])
        joined = "\n".join(part for part in texts if part.strip())
        lines = split_lines(joined, "texts")[0] if joined else []
        query = self._uploads.image(values[controls.image], "The query")
        images = ([query] if query else []) + self._uploads.images(
            values[controls.files], "pictures"
        )
        if not lines and not images:
            raise InputError("There is nothing to compare. Give texts, pictures, or both.")
        return self._store.resolve(values[controls.picker.dropdown], TASK), lines, images

    def _compute(
        self,
        spec: ModelSpec,
        lines: list[str],
        images: list[NamedImage],
        work: Callable[[Any], Any],
        progress: gr.Progress,
    ) -> Generator[tuple[Any, ...], None, Any]:
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING, lambda clip: clip.prepare(lines, images), progress)
            return work(held.pipeline)


def _wire(handlers: Handlers, controls: Controls, results: Results) -> None:
    rank, matrix, embed = (
        page_request(fn, controls.inputs, results.outputs, results.table, BATCHED_QUEUE)
        for fn in (handlers.rank, handlers.matrix, handlers.embed)
    )
    gr.on([controls.rank.click, controls.text.submit], **rank)
    controls.matrix.click(**matrix)
    controls.embed.click(**embed)
    for strip in controls.strip.strips:
        strip.click(lambda: None, None, controls.image, **PAGE_EVENT)
    inputs = [controls.text, controls.texts, controls.files]
    for filled in wire_example_strip(controls.strip, inputs, controls.picker.dropdown):
        filled.then(**rank)
