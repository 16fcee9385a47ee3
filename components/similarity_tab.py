"""Texts and images compared: a ranking, a matrix, vectors to take away."""

from functools import partial
from typing import Any

import gradio as gr

from components import format as fmt
from components.common import (
    BATCHED_QUEUE,
    PAGE_EVENT,
    badge,
    example_strip,
    lease,
    model_picker,
    save_result,
    wire_example_strip,
    wire_model_picker,
)
from components.errors import show_errors
from components.example_lists import similarity_examples
from components.files import Uploads, one_query
from pipelines.catalogue import Task
from pipelines.errors import InputError
from pipelines.labels import split_lines
from pipelines.results import Ranking
from pipelines.store import PipelineStore

TASK: Task = "image-text"

#: Pictures in the gallery of a ranking.
PICTURES_SHOWN = 60


def build(store: PipelineStore, page: gr.Blocks) -> None:
    """Lay out the tab."""
    with gr.Tab("Similarity", id="similarity"):
        gr.Markdown(
            "What is most like this? Compare a text or a picture with many others.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                tab = _inputs(store)
            with gr.Column(scale=6, min_width=300):
                result = _results()
    wire_model_picker(store, TASK, tab["picker"], page)
    _wire_ranking(store, tab, result)
    _wire_matrix(store, tab, result)


def _inputs(store: PipelineStore) -> dict[str, Any]:
    with gr.Group():
        text = gr.Textbox(label="Query: a text", placeholder="a red circle above a blue square")
        with gr.Accordion("… or a picture as the query", open=False):
            image = gr.Image(
                type="filepath", show_label=False, height=220, sources=["upload", "clipboard"]
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
    run = gr.Button("Rank", variant="primary", elem_classes="go")
    with gr.Row():
        grid = gr.Button("Matrix: all texts x all pictures", size="sm")
        vectors = gr.Button("Embeddings as a file (.npz)", size="sm")
    picker = model_picker(store, TASK)
    return {
        "text": text,
        "image": image,
        "texts": texts,
        "files": files,
        "run": run,
        "grid": grid,
        "vectors": vectors,
        "picker": picker,
        "strip": strip,
    }


def _results() -> dict[str, Any]:
    notices = gr.HTML(visible=False)
    gallery = gr.Gallery(
        label="Pictures, best first",
        visible=False,
        columns=4,
        height="auto",
        object_fit="contain",
        interactive=False,
        elem_classes="ranked",
    )
    table = gr.HTML(
        "<p class='empty'>Give a text or a picture, and texts or pictures to compare it with; "
        "then press Rank. Or start with one of the examples below.</p>"
    )
    csv = gr.DownloadButton("Download as CSV", visible=False, size="sm")
    npz = gr.DownloadButton("Download embeddings.npz", visible=False, size="sm")
    return {"notices": notices, "gallery": gallery, "table": table, "csv": csv, "npz": npz}


def _wire_ranking(store: PipelineStore, tab: dict[str, Any], result: dict[str, Any]) -> None:
    uploads = Uploads(store.settings)

    @show_errors
    def rank(
        text: str,
        image: str | None,
        texts: str,
        files: list[str] | None,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> tuple[Any, ...]:
        query = one_query(text, uploads.image(image, "The query"))
        images = uploads.images(files, "pictures")
        lines, _ = split_lines(texts, "texts") if texts.strip() else ([], [])
        spec = store.resolve(key, TASK)
        with lease(store, key, TASK, progress) as clip:
            answer: Ranking = clip.rank(query, lines, images)
        shown = fmt.notices(answer.notes, badge(store, spec))
        pictures = [
            (str(images[row.index].path), f"{row.rank} · {row.verdict}")
            for row in answer.rows
            if row.kind == "image" and row.cosine is not None
        ]
        csv = save_result(store.settings, "ranking.csv", fmt.ranking_csv(answer))
        return (
            gr.update(value=shown, visible=bool(shown)),
            gr.update(value=pictures[:PICTURES_SHOWN], visible=bool(pictures)),
            fmt.ranking_table(answer),
            gr.update(value=csv, visible=True),
            gr.update(visible=False),
        )

    def run_after(event: Any) -> None:
        event(
            rank,
            [tab["text"], tab["image"], tab["texts"], tab["files"], tab["picker"].dropdown],
            [result["notices"], result["gallery"], result["table"], result["csv"], result["npz"]],
            api_visibility="private",
            show_progress_on=[result["table"]],
            **BATCHED_QUEUE,
        )

    run_after(partial(gr.on, [tab["run"].click, tab["text"].submit]))
    for strip in tab["strip"].strips:
        strip.click(lambda: None, None, tab["image"], **PAGE_EVENT)
    wire_example_strip(
        tab["strip"],
        [tab["text"], tab["texts"], tab["files"]],
        tab["picker"].dropdown,
        lambda filled: run_after(filled.then),
    )


def _wire_matrix(store: PipelineStore, tab: dict[str, Any], result: dict[str, Any]) -> None:
    uploads = Uploads(store.settings)

    def everything(
        text: str, image: str | None, texts: str, files: list[str] | None
    ) -> tuple[list[str], list[Any]]:
        joined = "\n".join(part for part in (text, texts) if part.strip())
        lines, _ = split_lines(joined, "texts") if joined else ([], [])
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
    ) -> tuple[Any, ...]:
        lines, images = everything(text, image, texts, files)
        spec = store.resolve(key, TASK)
        with lease(store, key, TASK, progress) as clip:
            answer = clip.matrix(lines, images)
        shown = fmt.notices(answer.notes, badge(store, spec))
        csv = save_result(store.settings, "matrix.csv", fmt.matrix_csv(answer))
        return (
            gr.update(value=shown, visible=bool(shown)),
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
    ) -> tuple[Any, ...]:
        lines, images = everything(text, image, texts, files)
        spec = store.resolve(key, TASK)
        with lease(store, key, TASK, progress) as clip:
            parts = [clip.embed_texts(lines)] if lines else []
            parts += [clip.embed_images(images)] if images else []
        notes = [note for part in parts for note in part.notes]
        notes += [f"{name}: {reason}" for part in parts for name, reason in part.errors]
        shown = fmt.notices(notes, badge(store, spec))
        npz = save_result(store.settings, "embeddings.npz", fmt.embeddings_npz(parts))
        return (
            gr.update(value=shown, visible=bool(shown)),
            gr.update(visible=False),
            fmt.embeddings_summary(parts),
            gr.update(visible=False),
            gr.update(value=npz, visible=True),
        )

    asked = [tab["text"], tab["image"], tab["texts"], tab["files"], tab["picker"].dropdown]
    shown = [result["notices"], result["gallery"], result["table"], result["csv"], result["npz"]]
    for button, handler in ((tab["grid"], matrix), (tab["vectors"], embed)):
        button.click(
            handler,
            asked,
            shown,
            api_visibility="private",
            show_progress_on=[result["table"]],
            **BATCHED_QUEUE,
        )
