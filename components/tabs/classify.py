"""Zero-shot classification of an image with labels of one's own."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from components.jobs.label_choice import choose, classify
from components.render import scores as fmt
from components.render.heat_map import heat_overlay
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.uploads import Uploads
from components.widgets.examples import (
    classify_examples,
    example_strip,
    wire_example_strip,
)
from components.widgets.layout import hidden_html, offer, show, two_columns, wording_choice
from components.widgets.model_lease import lease
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.queues import BATCHED_QUEUE, PAGE_EVENT
from pipelines.core.spec import Task
from pipelines.models.notes import repeated_notes

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


class Controls:
    """What a visitor sets. `source` says which of picture and drawing is asked about."""

    def __init__(self) -> None:
        with gr.Tabs(selected="picture") as self.tabs:
            with gr.Tab("Picture", id="picture") as self.picture_tab:
                self.image = gr.Image(
                    type="filepath",
                    image_mode=None,  # the file as it is: every mode is brought to RGB later
                    label="Picture",
                    height=280,
                    show_label=False,
                    sources=["upload", "clipboard", "webcam"],
                )
            with gr.Tab("Draw", id="draw") as self.draw_tab:
                self.drawing = _canvas()
        self.strip = example_strip(
            lambda: gr.Image(type="filepath", render=False), *classify_examples()
        )
        self.labels = gr.Textbox(
            label="Labels",
            lines=4,
            max_lines=12,
            info="One per line, or separated by commas.",
            placeholder="red circle\nblue square\ngreen star",
        )
        self.run = gr.Button("Classify", variant="primary", elem_classes="go")
        self.picker = ModelPicker(TASK)
        with gr.Accordion("Options", open=False):
            self.templates = wording_choice()
            self.look = gr.Checkbox(False, label="Show where the model looks for a label")
        with gr.Accordion("Your own probe", open=False):
            self.probe = gr.File(
                label="A probe from the Evaluate tab, instead of labels",
                height=120,
                elem_classes="probe",
            )
        self.source = gr.State("picture")

    @property
    def subject(self) -> list[Any]:
        """The inputs that say which image is asked about, in order."""
        return [self.source, self.image, self.drawing]

    @property
    def settings(self) -> list[Any]:
        """The inputs that say how it is classified, in order."""
        return [self.templates, self.picker.dropdown]


class Results:
    """What a visitor gets."""

    def __init__(self) -> None:
        self.notices = hidden_html()
        self.chart = gr.Label(
            label="Best labels", num_top_classes=fmt.BARS_SHOWN, visible=False, elem_classes="chart"
        )
        self.table = gr.HTML(EMPTY, padding=False)
        with gr.Column(visible=False) as self.look_box:
            self.look_label = gr.Dropdown([], label="Where does it look for", interactive=True)
            self.overlay = gr.Image(
                label="Where the model looks",
                alt_text="Where the model looks",
                interactive=False,
                height=320,
                buttons=["download", "fullscreen"],
            )
        self.download = gr.DownloadButton("Download as CSV", visible=False, size="sm")
        with gr.Accordion("How to read the scores", open=False):
            gr.Markdown(HOW_TO_READ)

    @property
    def outputs(self) -> list[Any]:
        """The outputs of a classification, in order."""
        return [self.notices, self.chart, self.table, self.look_label, self.download]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    with gr.Tab("Classify", id="classify"):
        gr.Markdown(
            "Which of your words fits this picture? Write any labels, in any number.",
            elem_classes="lead",
        )
        controls, results = two_columns(Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    _wire_source(controls)
    _wire_answers(Handlers(services), controls, results)


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


#: Values of the outputs of a classification that change nothing.
_NOTHING = (gr.skip(),) * 5


class Handlers:
    """Handlers of the events."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._uploads = Uploads(services.store.settings)

    def _file(self, source: str, image: str | None, drawing: dict[str, Any] | None) -> Path:
        if source == "draw":
            return self._uploads.path((drawing or {}).get("composite"), "The drawing")
        return self._uploads.path(image, "The picture")

    @show_errors
    def classify(
        self,
        source: str,
        image: str | None,
        drawing: dict[str, Any] | None,
        text: str,
        templates: str,
        key: str,
        probe: str | None,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `Results.outputs`."""
        file = self._file(source, image, drawing)
        labels = choose(self._uploads, text, probe)
        spec = self._store.resolve(key, TASK)
        answer = yield from classify(
            self._store, spec, file, labels, templates or "", _NOTHING, progress
        )
        notes = [*answer.notes, *repeated_notes(labels.repeated)]
        notes += fmt.verdict_summary(answer) if labels.probe is None else []
        best = [score.label for score in answer.scores[:50]]
        yield (
            notices_of(self._store, spec, notes),
            show(fmt.as_chart(answer)),
            fmt.scores_table(answer),
            gr.update(choices=best, value=best[0]),
            offer(self._store.settings, "scores.csv", fmt.scores_csv(answer)),
        )

    @show_errors
    def show_where(
        self,
        wanted: bool,
        source: str,
        image: str | None,
        drawing: dict[str, Any] | None,
        label: str | None,
        templates: str,
        key: str,
    ) -> Iterator[Any]:
        """Yield the image with the parts lit that a label is found in."""
        if not wanted or not label:
            yield None
            return
        file = self._file(source, image, drawing)
        with lease(self._store, key, TASK) as held:
            yield from held.wait(gr.skip())
            clip = held.pipeline
            relevance = clip.relevance(file, label, templates or "")
            yield heat_overlay(clip.pictures.open(file), relevance)  # one image held at a time


def _wire_source(controls: Controls) -> None:
    """Keep `source` true to the open tab, and open that of the picture for an example."""
    controls.picture_tab.select(lambda: "picture", None, controls.source, **PAGE_EVENT)
    controls.draw_tab.select(lambda: "draw", None, controls.source, **PAGE_EVENT)
    for strip in controls.strip.strips:
        strip.click(
            lambda: ("picture", gr.update(selected="picture")),
            None,
            [controls.source, controls.tabs],
            **PAGE_EVENT,
        )


def _wire_answers(handlers: Handlers, controls: Controls, results: Results) -> None:
    private: dict[str, Any] = {"api_visibility": "private", **BATCHED_QUEUE}
    show_box: dict[str, Any] = {
        "fn": lambda wanted, label: gr.update(visible=bool(wanted and label)),
        "inputs": [controls.look, results.look_label],
        "outputs": results.look_box,
        **PAGE_EVENT,
    }
    show_where: dict[str, Any] = {
        "fn": handlers.show_where,
        "inputs": [controls.look, *controls.subject, results.look_label, *controls.settings],
        "outputs": results.overlay,
        **private,
    }

    def run_after(event: Any) -> None:
        answered = event(
            handlers.classify,
            [*controls.subject, controls.labels, *controls.settings, controls.probe],
            results.outputs,
            show_progress_on=[results.table],
            scroll_to_output=True,
            **private,
        )
        answered.success(**show_box)
        answered.success(**show_where)

    controls.look.change(**show_box)
    run_after(partial(gr.on, [controls.run.click, controls.labels.submit]))
    wire_example_strip(
        controls.strip,
        [controls.image, controls.labels],
        controls.picker.dropdown,
        lambda filled: run_after(filled.then),
    )
    # not the dropdown's input event: it comes twice, and the second answer may get lost
    gr.on([results.look_label.select, controls.look.input], **show_where)
