"""Zero-shot classification of an image with labels of one's own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from components.jobs.label_choice import choose
from components.render import scores as fmt
from components.render.heat_map import heat_overlay
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.uploads import Uploads
from components.widgets.common import (
    BATCHED_QUEUE,
    PAGE_EVENT,
    TEMPLATE_CHOICES,
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
from components.widgets.examples import classify_examples
from components.widgets.model_lease import lease
from pipelines.core.spec import Task
from pipelines.models.notes import repeated_notes
from pipelines.serving.store import PipelineStore

TASK: Task = "image-text"

#: Paints of the canvas, those of a paint program's palette.
PAINTS: list[str | tuple[str, float]] = [
    "#e4202c",
    "#ff8a14",
    "#ffe312",
    "#23a038",
    "#1c4ed8",
    "#8a2be2",
    "#ff8fc8",
    "#8b5a2b",
    "#000000",
]

HOW_TO_READ = (
    "**Probability** shares the picture among your labels: with one label it is always 100 %, "
    "and a wrong label gets 99 % if the others are worse (SigLIP scores each label by itself). "
    "**Cosine** is the model's raw similarity; it is low for every pair and its level differs "
    "from picture to picture. **Verdict** says whether a label fits at all: it compares the "
    "label's cosine with what this picture scores on a fixed list of neutral texts, so other "
    "labels never change it."
)

EMPTY = paragraph(
    "Choose a picture or draw one, write labels, press Classify. Or start with one of the examples."
)


@dataclass(frozen=True)
class Controls:
    """What a person sets. `source` says which of picture and drawing is asked about."""

    tabs: gr.Tabs
    picture_tab: gr.Tab
    draw_tab: gr.Tab
    source: gr.State
    image: gr.Image
    drawing: gr.Sketchpad
    strip: ExampleStrip
    labels: gr.Textbox
    run: gr.Button
    picker: ModelPicker
    templates: gr.Dropdown
    look: gr.Checkbox
    probe: gr.File


@dataclass(frozen=True)
class Results:
    """What a person gets."""

    notices: gr.HTML
    chart: gr.Label
    table: gr.HTML
    look_box: gr.Column
    look_label: gr.Dropdown
    overlay: gr.Image
    download: gr.DownloadButton


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out the tab."""
    store = services.store
    with gr.Tab("Classify", id="classify"):
        gr.Markdown(
            "Which of your words fits this picture? Write any labels, in any number.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls = _lay_out_controls()
            with gr.Column(scale=6, min_width=300):
                results = _lay_out_results()
    wire_model_picker(store, TASK, controls.picker, page)
    _wire_page(controls, results)
    _wire_answers(store, controls, results)


def _lay_out_controls() -> Controls:
    with gr.Tabs(selected="picture") as tabs:
        with gr.Tab("Picture", id="picture") as picture_tab:
            image = gr.Image(
                type="filepath",
                image_mode=None,  # the file as it is: every mode is brought to RGB later
                label="Picture",
                height=280,
                show_label=False,
                sources=["upload", "clipboard", "webcam"],
            )
        with gr.Tab("Draw", id="draw") as draw_tab:
            drawing = _canvas()
    strip = example_strip(lambda: gr.Image(type="filepath", render=False), *classify_examples())
    labels = gr.Textbox(
        label="Labels",
        lines=4,
        max_lines=12,
        info="One per line, or separated by commas.",
        placeholder="red circle\nblue square\ngreen star",
    )
    run = gr.Button("Classify", variant="primary", elem_classes="go")
    picker = model_picker(TASK)
    with gr.Accordion("Options", open=False):
        templates = gr.Dropdown(
            TEMPLATE_CHOICES,
            value="photo",
            label="Wording",
            allow_custom_value=True,
            info="How each label becomes a text. Or write your own, with {} for the label.",
        )
        look = gr.Checkbox(False, label="Show where the model looks for a label")
    with gr.Accordion("Your own probe", open=False):
        probe = gr.File(
            label="A probe from the Evaluate tab, instead of labels",
            height=120,
            elem_classes="probe",
        )
    return Controls(
        tabs, picture_tab, draw_tab, gr.State("picture"), image, drawing, strip, labels, run,
        picker, templates, look, probe,
    )  # fmt: skip


def _canvas() -> gr.Sketchpad:
    return gr.Sketchpad(
        type="filepath",
        format="png",
        label="Drawing",
        show_label=False,
        height=400,
        canvas_size=(320, 320),
        fixed_canvas=True,
        layers=False,
        transforms=(),
        buttons=[],
        brush=gr.Brush(default_size=28, default_color="#e4202c", colors=PAINTS, color_mode="fixed"),
    )


def _lay_out_results() -> Results:
    notices = gr.HTML(visible=False, padding=False)
    chart = gr.Label(
        label="Best labels", num_top_classes=fmt.BARS_SHOWN, visible=False, elem_classes="chart"
    )
    table = gr.HTML(EMPTY, padding=False)
    with gr.Column(visible=False) as look_box:
        look_label = gr.Dropdown([], label="Where does it look for", interactive=True)
        overlay = gr.Image(
            label="Where the model looks",
            alt_text="Where the model looks",
            interactive=False,
            height=320,
            buttons=["download", "fullscreen"],
        )
    download = gr.DownloadButton("Download as CSV", visible=False, size="sm")
    with gr.Accordion("How to read the scores", open=False):
        gr.Markdown(HOW_TO_READ)
    return Results(notices, chart, table, look_box, look_label, overlay, download)


def _wire_page(controls: Controls, results: Results) -> None:
    """Wire what changes the page only."""
    controls.picture_tab.select(lambda: "picture", None, controls.source, **PAGE_EVENT)
    controls.draw_tab.select(lambda: "draw", None, controls.source, **PAGE_EVENT)
    controls.look.change(**_show_look_box(controls, results))
    for strip in controls.strip.strips:
        strip.click(
            lambda: ("picture", gr.update(selected="picture")),
            None,
            [controls.source, controls.tabs],
            **PAGE_EVENT,
        )


def _show_look_box(controls: Controls, results: Results) -> dict[str, Any]:
    """Return the event that shows the map's box where it is wanted and there is an answer."""

    def show_look_box(wanted: bool, label: str | None) -> Any:
        return gr.update(visible=bool(wanted and label))

    asked = [controls.look, results.look_label]
    return {"fn": show_look_box, "inputs": asked, "outputs": results.look_box, **PAGE_EVENT}


def _wire_answers(store: PipelineStore, controls: Controls, results: Results) -> None:
    """Wire what asks a model."""
    classify, show_where = _handlers(store)
    asked = [controls.source, controls.image, controls.drawing]
    settings = [controls.templates, controls.picker.dropdown]
    where = [controls.look, *asked, results.look_label, *settings]
    look: dict[str, Any] = {"fn": show_where, "inputs": where, "outputs": results.overlay}
    private: dict[str, Any] = {"api_visibility": "private", **BATCHED_QUEUE}

    def run_after(event: Any) -> None:
        """Classify when `event` comes, then draw where the model looks if that is wanted."""
        answered = event(
            classify,
            [*asked, controls.labels, *settings, controls.probe],
            [
                results.notices,
                results.chart,
                results.table,
                results.look_label,
                results.download,
            ],
            show_progress_on=[results.table],
            scroll_to_output=True,
            **private,
        )
        answered.success(**_show_look_box(controls, results))
        answered.success(**look, **private)

    run_after(partial(gr.on, [controls.run.click, controls.labels.submit]))
    wire_example_strip(
        controls.strip,
        [controls.image, controls.labels],
        controls.picker.dropdown,
        lambda filled: run_after(filled.then),
    )
    # not the dropdown's input event: it comes twice, and the second answer may get lost
    gr.on([results.look_label.select, controls.look.input], **look, **private)


def _handlers(store: PipelineStore) -> tuple[Callable[..., Any], Callable[..., Any]]:
    uploads = Uploads(store.settings)

    def chosen(source: str, image: str | None, drawing: dict[str, Any] | None) -> Path:
        if source == "draw":
            return uploads.path((drawing or {}).get("composite"), "The drawing")
        return uploads.path(image, "The picture")

    @show_errors
    def classify(
        source: str,
        image: str | None,
        drawing: dict[str, Any] | None,
        text: str,
        templates: str,
        key: str,
        probe: str | None,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        file = chosen(source, image, drawing)
        labels = choose(uploads, text, probe)
        spec = store.resolve(key, TASK)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait((gr.skip(),) * 5)
            clip = lent.pipeline
            for _ in worked_off(clip.prepare(labels.labels, templates=templates or ""), progress):
                yield (gr.skip(),) * 5
            answer = labels.classify(clip, file, templates or "")
        notes = [*answer.notes, *repeated_notes(labels.repeated)]
        notes += fmt.verdict_summary(answer) if labels.probe is None else []
        csv = save_result(store.settings, "scores.csv", fmt.scores_csv(answer))
        best = [score.label for score in answer.scores[:50]]
        yield (
            fmt.shown_if_any(fmt.notices(notes, badge(store, spec))),
            gr.update(value=fmt.as_chart(answer), visible=True),
            fmt.scores_table(answer),
            gr.update(choices=best, value=best[0]),
            gr.update(value=csv, visible=True),
        )

    @show_errors
    def show_where(
        wanted: bool,
        source: str,
        image: str | None,
        drawing: dict[str, Any] | None,
        label: str | None,
        templates: str,
        key: str,
    ) -> Iterator[Any]:
        if not wanted or not label:
            yield None
            return
        file = chosen(source, image, drawing)
        with lease(store, key, TASK) as lent:
            yield from lent.wait(gr.skip())
            clip = lent.pipeline
            relevance = clip.look(file, label, templates or "")
            yield heat_overlay(clip.pictures.open(file), relevance)  # one picture held at a time

    return classify, show_where
