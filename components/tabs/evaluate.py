"""How well a model recognises one's own classes, and a probe taught on them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.render import evaluation
from components.render import scores as fmt
from components.render.html import paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.server.uploads import Uploads
from components.widgets.common import (
    ASSETS,
    BATCH_QUEUE,
    PAGE_EVENT,
    TEMPLATE_CHOICES,
    ModelPicker,
    badge,
    model_picker,
    save_result,
    wire_model_picker,
)
from pipelines.core.spec import Task
from pipelines.evaluation.job import Evaluation, EvaluationRequest, Stage, follow
from pipelines.evaluation.train_probe import SHARES, ProbeOptions
from pipelines.serving.store import PipelineStore

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

#: Labels of the files of results, in order.
FILES = (
    "Download the probe",
    "Confusion matrix (.csv)",
    "Classes (.csv)",
    "Predictions (.csv)",
)


@dataclass(frozen=True)
class Controls:
    """What a person sets."""

    archive: gr.File
    example: gr.Button
    picker: ModelPicker
    templates: gr.Dropdown
    held_out: gr.Slider
    seed: gr.Number
    evaluate: gr.Button
    train: gr.Button
    stop: gr.Button


@dataclass(frozen=True)
class Results:
    """What a person gets."""

    figures: gr.HTML
    notices: gr.HTML
    downloads: tuple[gr.DownloadButton, ...]
    confusion: gr.HTML
    classes: gr.HTML
    mistakes: gr.HTML
    left_out: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """The components in the order in which an evaluation sets them."""
        tables = [self.confusion, self.classes, self.mistakes, self.left_out]
        return [self.figures, self.notices, *self.downloads, *tables]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out the tab."""
    store = services.store
    with gr.Tab("Evaluate", id="evaluate"):
        gr.Markdown(LEAD, elem_classes="lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls = _lay_out_controls()
            with gr.Column(scale=6, min_width=300):
                results = _lay_out_results()
    wire_model_picker(store, TASK, controls.picker, page)
    _wire(store, controls, results)


def _lay_out_controls() -> Controls:
    archive = gr.File(label="A zip with one folder for each class", height=150)
    example = gr.Button("Take the example", size="sm")
    templates = gr.Dropdown(
        TEMPLATE_CHOICES,
        value="photo",
        label="Wording",
        allow_custom_value=True,
        info="How each label becomes a text. Or write your own, with {} for the label.",
    )
    picker = model_picker(TASK)
    with gr.Row():
        evaluate = gr.Button("Evaluate", variant="primary", elem_classes="go", min_width=80)
        train = gr.Button("Train a probe", variant="primary", min_width=80)
        stop = gr.Button("Stop", min_width=64, scale=0)
    with gr.Accordion("Options of the probe", open=False):
        held_out = gr.Slider(
            *SHARES,
            value=0.25,
            step=0.05,
            label="Held out",
            info="Share of each class that the probe never sees and is measured on.",
        )
        seed = gr.Number(0, label="Seed", precision=0, info="Of the split of the pictures.")
    return Controls(archive, example, picker, templates, held_out, seed, evaluate, train, stop)


def _lay_out_results() -> Results:
    figures = gr.HTML(EMPTY, padding=False)
    notices = gr.HTML(visible=False, padding=False)
    with gr.Row(elem_classes="downloads"):
        downloads = tuple(
            gr.DownloadButton(
                label, visible=False, size="sm", min_width=140,
                variant="primary" if label == FILES[0] else "secondary",
            )
            for label in FILES
        )  # fmt: skip
    tables = [gr.HTML(visible=False, padding=False) for _ in range(4)]
    with gr.Accordion("How to read the figures", open=False):
        gr.Markdown(HOW_TO_READ)
    return Results(figures, notices, downloads, *tables)


def _wire(store: PipelineStore, controls: Controls, results: Results) -> None:
    evaluate, train = _handlers(store)
    asked = [controls.archive, controls.templates, controls.picker.dropdown]
    how: dict[str, Any] = {
        "outputs": results.outputs,
        "show_progress_on": [results.figures],
        "scroll_to_output": True,
        "api_visibility": "private",
        **BATCH_QUEUE,
    }
    running: list[Any] = [
        controls.evaluate.click(evaluate, asked, **how),
        controls.train.click(train, [*asked, controls.held_out, controls.seed], **how),
    ]
    controls.stop.click(None, cancels=running, api_visibility="private")
    example = str(ASSETS / "examples" / "toy-shop.zip")
    controls.example.click(lambda: example, None, controls.archive, **PAGE_EVENT)


def _handlers(store: PipelineStore) -> tuple[Callable[..., Any], Callable[..., Any]]:
    uploads = Uploads(store.settings)

    def answers(
        archive: str | None,
        templates: str,
        key: str,
        probe: ProbeOptions | None,
        progress: gr.Progress,
    ) -> Iterator[Any]:
        path = uploads.path(archive, "The zip")
        order = EvaluationRequest(
            path, store.resolve(key, TASK), templates or "", probe, pictures=True
        )
        stage = Stage("Waiting")
        for step in follow(store, order):
            if isinstance(step, Evaluation):
                yield _shown(store, order, step)
                return
            stage = step or stage
            _tell(stage, progress)  # each time: what is yielded takes it off the page
            yield (gr.skip(),) * (len(FILES) + 6)

    @show_errors
    def evaluate(
        archive: str | None, templates: str, key: str, progress: gr.Progress = gr.Progress()
    ) -> Iterator[Any]:
        yield from answers(archive, templates, key, None, progress)

    @show_errors
    def train(
        archive: str | None,
        templates: str,
        key: str,
        held_out: float,
        seed: float | None,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[Any]:
        options = ProbeOptions(held_out=held_out, seed=int(seed or 0))
        yield from answers(archive, templates, key, options, progress)

    return evaluate, train


def _tell(stage: Stage, progress: gr.Progress) -> None:
    how_far = (stage.done, stage.total) if stage.total else 0.0  # without any, no text is shown
    progress(how_far, desc=say(stage.text), unit=stage.unit)


def _shown(store: PipelineStore, order: EvaluationRequest, found: Evaluation) -> tuple[Any, ...]:
    """Return a value for each output."""
    notes = list(found.notes)
    if found.probe is not None:
        notes.insert(0, "To use the probe: download it, then in Classify open “Your own probe”.")
    texts = {
        "confusion.csv": evaluation.confusion_csv(found),
        "classes.csv": evaluation.classes_csv(found),
        "predictions.csv": evaluation.predictions_csv(found),
    }
    probe = gr.update(visible=False)
    if found.probe is not None:
        name = evaluation.probe_name(found.probe)
        path = save_result(store.settings, name, found.probe.to_bytes())
        probe = gr.update(value=path, visible=True)
    return (
        evaluation.figures(found),
        fmt.shown_if_any(fmt.notices(notes, badge(store, order.spec))),
        probe,
        *(
            gr.update(value=save_result(store.settings, name, text), visible=True)
            for name, text in texts.items()
        ),
        fmt.shown_if_any(evaluation.confusion_table(found.measured)),
        fmt.shown_if_any(evaluation.classes_table(found)),
        fmt.shown_if_any(evaluation.mistakes_strip(found)),
        fmt.shown_if_any(evaluation.left_out_table(found)),
    )
