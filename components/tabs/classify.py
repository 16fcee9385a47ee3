"""Zero-shot classification of an image with labels of one's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from components.jobs.label_choice import choose, classify
from components.render import scores as fmt
from components.render.heat_map import heat_overlay
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.widgets.examples import classify_examples, example_strip, wire_example_strip
from components.widgets.layout import (
    TabHandlers,
    hidden_html,
    lay_out_tab,
    offer,
    show,
    wording_choice,
)
from components.widgets.model_lease import lease
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.queues import BATCHED_QUEUE, PAGE_EVENT, page_request
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
    """Input components of the tab. `source` says which of picture and drawing is asked about."""

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
        subject = {self.source, self.image, self.drawing}
        self.asked: set[Any] = {*subject, self.templates, self.picker.dropdown}


class Results:
    """Output components of the tab."""

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
        answer = [self.notices, self.chart, self.table]
        self.outputs: list[Any] = [*answer, self.look_label, self.download]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    lead = "Which of your words fits this picture? Write any labels, in any number."
    _, controls, results = lay_out_tab("Classify", lead, Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    _wire_source(controls)
    _wire_answers(Handlers(services, controls, results), controls, results)


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


class Handlers(TabHandlers[Controls]):
    """Handlers of the events."""

    def __init__(self, services: Services, controls: Controls, results: Results) -> None:
        super().__init__(services, controls)
        self._look_label = results.look_label

    def _file(self, values: dict[Any, Any]) -> Path:
        controls = self._controls
        if values[controls.source] == "draw":
            drawing = values[controls.drawing] or {}
            return self._uploads.path(drawing.get("composite"), "The drawing")
        return self._uploads.path(values[controls.image], "The picture")

    @show_errors
    def classify(
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `Results.outputs`."""
        controls, file = self._controls, self._file(values)
        labels = choose(self._uploads, values[controls.labels], values[controls.probe])
        spec = self._store.resolve(values[controls.picker.dropdown], TASK)
        templates = values[controls.templates] or ""
        answer = yield from classify(self._store, spec, file, labels, templates, _NOTHING, progress)
        notes = [*answer.notes, *repeated_notes(labels.repeated)]
        notes += fmt.verdict_summary(answer) if labels.probe is None else []
        best = [score.label for score in answer.scores[:50]]
        yield (
            notices_of(self._store, spec, notes),
            show(fmt.as_chart(answer)),
            fmt.scores_table(answer),
            gr.update(choices=best, value=best[0]),
            offer(self._settings, "scores.csv", fmt.scores_csv(answer)),
        )

    @show_errors
    def show_where(self, values: dict[Any, Any]) -> Iterator[Any]:
        """Yield the image with the parts lit that a label is found in."""
        controls, label = self._controls, values[self._look_label]
        if not values[controls.look] or not label:
            yield None
            return
        file = self._file(values)
        with lease(self._store, values[controls.picker.dropdown], TASK) as held:
            yield from held.wait(gr.skip())
            clip = held.pipeline
            relevance = clip.relevance(file, label, values[controls.templates] or "")
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
    show_box: dict[str, Any] = {
        "fn": lambda wanted, label: gr.update(visible=bool(wanted and label)),
        "inputs": [controls.look, results.look_label],
        "outputs": results.look_box,
        **PAGE_EVENT,
    }
    show_where: dict[str, Any] = {
        "fn": handlers.show_where,
        "inputs": {controls.look, results.look_label, *controls.asked},
        "outputs": results.overlay,
        "api_visibility": "private",
        **BATCHED_QUEUE,
    }
    classified = {controls.labels, controls.probe, *controls.asked}
    ask = page_request(handlers.classify, classified, results.outputs, results.table, BATCHED_QUEUE)
    controls.look.change(**show_box)
    running = [gr.on([controls.run.click, controls.labels.submit], **ask)]
    inputs = [controls.image, controls.labels]
    for filled in wire_example_strip(controls.strip, inputs, controls.picker.dropdown):
        running.append(filled.then(**ask))
    for answered in running:
        answered.success(**show_box)
        answered.success(**show_where)
    # not the dropdown's input event: it comes twice, and the second answer may get lost
    gr.on([results.look_label.select, controls.look.input], **show_where)
