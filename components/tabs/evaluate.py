"""Accuracy of a model on one's own classes, and a probe trained on them."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.render import evaluation
from components.render import scores as fmt
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.widgets.examples import ASSETS
from components.widgets.layout import (
    HIDDEN,
    TabHandlers,
    download_button,
    hidden_html,
    lay_out_tab,
    offer,
    wording_choice,
)
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.queues import BATCH_QUEUE, PAGE_EVENT, page_request
from pipelines.core.spec import ModelSpec, Task
from pipelines.evaluation.job import Evaluation, EvaluationRequest, Stage, follow
from pipelines.evaluation.train_probe import SHARES, ProbeOptions

TASK: Task = "image-text"

LEAD = (
    "How well does a model recognise your own classes? Give a zip with one folder of pictures "
    "for each class. Or teach it: a probe learns from your pictures what the names do not say."
)

EMPTY = paragraph(
    "Upload a zip of folders named after classes, such as cat/1.jpg and "
    "dog/1.jpg, and press Evaluate or Train a probe. Or take the example."
)

HOW_TO_READ = (
    "**Zero-shot** means that the model only knows the names of the folders, in the wording that "
    "you choose. **The probe** is a logistic regression on the vectors of your pictures; a share "
    "of each class is held out, and both accuracies are measured on that share. The **95 % "
    "interval** (Wilson) says how far the accuracy may be off with so few pictures. A picture "
    "that comes twice counts once."
)

PROBE_NOTE = "To use the probe: download it, then in Classify open “Your own probe”."

#: Labels of the files of results, in order.
FILES = (
    "Download the probe",
    "Confusion matrix (.csv)",
    "Classes (.csv)",
    "Predictions (.csv)",
)


class Controls:
    """Input components of the tab."""

    def __init__(self) -> None:
        self.archive = gr.File(label="A zip with one folder for each class", height=150)
        self.example = gr.Button("Take the example", size="sm")
        self.templates = wording_choice()
        self.picker = ModelPicker(TASK)
        with gr.Row():
            self.evaluate = gr.Button(
                "Evaluate", variant="primary", elem_classes="go", min_width=80
            )
            self.train = gr.Button("Train a probe", variant="primary", min_width=80)
            self.stop = gr.Button("Stop", min_width=64, scale=0)
        with gr.Accordion("Options of the probe", open=False):
            self.held_out = gr.Slider(
                *SHARES,
                value=0.25,
                step=0.05,
                label="Held out",
                info="Share of each class that the probe never sees and is measured on.",
            )
            self.seed = gr.Number(
                0, label="Seed", precision=0, info="Of the split of the pictures."
            )
        self.inputs: set[Any] = {self.archive, self.templates, self.picker.dropdown}


class Results:
    """Output components of the tab."""

    def __init__(self) -> None:
        self.figures = gr.HTML(EMPTY, padding=False)
        self.notices = hidden_html()
        with gr.Row(elem_classes="downloads"):
            downloads = tuple(
                download_button(label, variant="primary" if label == FILES[0] else "secondary")
                for label in FILES
            )
        tables = [hidden_html() for _ in range(4)]
        with gr.Accordion("How to read the figures", open=False):
            gr.Markdown(HOW_TO_READ)
        self.outputs: list[Any] = [self.figures, self.notices, *downloads, *tables]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    _, controls, results = lay_out_tab("Evaluate", LEAD, Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    _wire(Handlers(services, controls), controls, results)


class Handlers(TabHandlers[Controls]):
    """Handlers of the events; each yields the values of `Results.outputs`."""

    @show_errors
    def evaluate(
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[Any]:
        """Measure the zero-shot accuracy."""
        yield from self._follow(values, None, progress)

    @show_errors
    def train(self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()) -> Iterator[Any]:
        """Train a probe, and measure both accuracies."""
        held_out, seed = values[self._controls.held_out], values[self._controls.seed]
        options = ProbeOptions(held_out=held_out, seed=int(seed or 0))
        yield from self._follow(values, options, progress)

    def _follow(
        self, values: dict[Any, Any], probe: ProbeOptions | None, progress: gr.Progress
    ) -> Iterator[Any]:
        controls = self._controls
        path = self._uploads.path(values[controls.archive], "The zip")
        spec = self._store.resolve(values[controls.picker.dropdown], TASK)
        templates = values[controls.templates] or ""
        request = EvaluationRequest(path, spec, templates, probe, pictures=True)
        stage = Stage("Waiting")
        for step in follow(self._store, request):
            if isinstance(step, Evaluation):
                yield self._shown(spec, step)
                return
            stage = step or stage
            # each time: what is yielded takes it off the page; without a total a pair shows no text
            how_far = (stage.done, stage.total) if stage.total else 0.0
            progress(how_far, desc=say(stage.text), unit=stage.unit)
            yield (gr.skip(),) * (len(FILES) + 6)

    def _shown(self, spec: ModelSpec, found: Evaluation) -> tuple[Any, ...]:
        notes, probe = list(found.notes), HIDDEN
        if found.probe is not None:
            notes.insert(0, PROBE_NOTE)
            name = evaluation.probe_name(found.probe)
            probe = offer(self._settings, name, found.probe.to_bytes())
        return (
            evaluation.figures(found),
            notices_of(self._store, spec, notes),
            probe,
            offer(self._settings, "confusion.csv", evaluation.confusion_csv(found)),
            offer(self._settings, "classes.csv", evaluation.classes_csv(found)),
            offer(self._settings, "predictions.csv", evaluation.predictions_csv(found)),
            fmt.shown_if_any(evaluation.confusion_table(found.measured)),
            fmt.shown_if_any(evaluation.classes_table(found)),
            fmt.shown_if_any(evaluation.mistakes_strip(found)),
            fmt.shown_if_any(evaluation.left_out_table(found)),
        )


def _wire(handlers: Handlers, controls: Controls, results: Results) -> None:
    running: list[Any] = []
    for button, handler, inputs in (
        (controls.evaluate, handlers.evaluate, controls.inputs),
        (controls.train, handlers.train, controls.inputs | {controls.held_out, controls.seed}),
    ):
        ask = page_request(handler, inputs, results.outputs, results.figures, BATCH_QUEUE)
        running.append(button.click(**ask))
    controls.stop.click(None, cancels=running, api_visibility="private")
    example = str(ASSETS / "examples" / "toy-shop.zip")
    controls.example.click(lambda: example, None, controls.archive, **PAGE_EVENT)
