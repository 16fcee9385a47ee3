"""Zero-shot classification of an image with labels of one's own."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from components import format as fmt
from components.common import (
    BATCHED_QUEUE,
    PAGE_EVENT,
    ModelPicker,
    badge,
    example_strip,
    lease,
    model_picker,
    save_result,
    wire_example_strip,
    wire_model_picker,
)
from components.errors import show_errors
from components.example_lists import classify_examples
from components.files import Uploads
from components.overlay import heat_overlay
from pipelines.catalogue import Task
from pipelines.clip.notes import repeated_notes
from pipelines.labels import split_labels
from pipelines.store import PipelineStore

TASK: Task = "image-text"

#: What the template picker offers, (title, value of `templates`).
TEMPLATE_CHOICES = [
    ("“a photo of a …”", "photo"),
    ("Ensemble: average of 12 wordings", "ensemble"),
    ("None: the label as it is", ""),
]

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


def build(store: PipelineStore, page: gr.Blocks) -> None:
    """Lay out the tab."""
    with gr.Tab("Classify", id="classify"):
        gr.Markdown(
            "Which of your words fits this picture? Write any labels, in any number.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                tab = _inputs(store)
            with gr.Column(scale=6, min_width=300):
                result = _results()
    wire_model_picker(store, TASK, tab["picker"], page)
    _wire(store, tab, result)


def _inputs(store: PipelineStore) -> dict[str, Any]:
    with gr.Tabs(selected="picture") as tabs:
        with gr.Tab("Picture", id="picture") as picture_tab:
            image = gr.Image(
                type="filepath",
                label="Picture",
                height=300,
                show_label=False,
                sources=["upload", "clipboard", "webcam"],
            )
        with gr.Tab("Draw", id="draw") as draw_tab:
            drawing = gr.Sketchpad(
                type="filepath",
                format="png",
                label="Drawing",
                show_label=False,
                height=360,
                canvas_size=(320, 320),
                layers=False,
                buttons=[],
                brush=gr.Brush(
                    default_size=28, default_color="#e4202c", colors=PAINTS, color_mode="fixed"
                ),
            )
    strip = example_strip(lambda: gr.Image(type="filepath", render=False), *classify_examples())
    labels = gr.Textbox(
        label="Labels",
        lines=4,
        max_lines=12,
        info="One per line, or separated by commas.",
        placeholder="red circle\nblue square\ngreen star",
    )
    run = gr.Button("Classify", variant="primary", elem_classes="go")
    picker: ModelPicker = model_picker(store, TASK)
    with gr.Accordion("Options", open=False):
        templates = gr.Dropdown(
            TEMPLATE_CHOICES,
            value="photo",
            label="Wording",
            allow_custom_value=True,
            info="How each label becomes a text. Or write your own, with {} for the label.",
        )
        look = gr.Checkbox(False, label="Show where the model looks for a label")
    return {
        "image": image,
        "drawing": drawing,
        "labels": labels,
        "run": run,
        "picker": picker,
        "templates": templates,
        "look": look,
        "source": gr.State("picture"),
        "tabs": tabs,
        "picture_tab": picture_tab,
        "draw_tab": draw_tab,
        "strip": strip,
    }


def _results() -> dict[str, Any]:
    notices = gr.HTML(visible=False)
    chart = gr.Label(label="Best labels", num_top_classes=fmt.BARS_SHOWN, elem_classes="chart")
    table = gr.HTML(
        "<p class='empty'>Choose a picture, write labels, press Classify. "
        "Or start with one of the examples below.</p>"
    )
    with gr.Column(visible=False) as look_box:
        look_label = gr.Dropdown([], label="Where does it look for", interactive=True)
        overlay = gr.Image(
            label="Where the model looks",
            interactive=False,
            height=320,
            buttons=["download", "fullscreen"],
        )
    download = gr.DownloadButton("Download as CSV", visible=False, size="sm")
    with gr.Accordion("How to read the scores", open=False):
        gr.Markdown(
            "**Probability** shares the picture among your labels: with one label it is always "
            "100 %, and a wrong label gets 99 % if the others are worse (SigLIP scores each "
            "label by itself). **Cosine** is the model's raw similarity; it is low for every "
            "pair and its level differs from picture to picture. **Verdict** says whether a "
            "label fits at all: it compares the label's cosine with what this picture scores on "
            "a fixed list of neutral texts, so other labels never change it."
        )
    return {
        "notices": notices,
        "chart": chart,
        "table": table,
        "look_box": look_box,
        "look_label": look_label,
        "overlay": overlay,
        "download": download,
    }


def _wire(store: PipelineStore, tab: dict[str, Any], result: dict[str, Any]) -> None:
    uploads = Uploads(store.settings)
    asked = [tab["source"], tab["image"], tab["drawing"]]

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
        progress: gr.Progress = gr.Progress(),
    ) -> tuple[Any, ...]:
        names, repeated = split_labels(text)
        file = chosen(source, image, drawing)
        spec = store.resolve(key, TASK)
        with lease(store, key, TASK, progress) as clip:
            answer = clip.classify(file, names, templates=templates)
        notes = [*answer.notes, *repeated_notes(repeated), *fmt.verdict_summary(answer)]
        shown = fmt.notices(notes, badge(store, spec))
        csv = save_result(store.settings, "scores.csv", fmt.scores_csv(answer))
        best = [score.label for score in answer.scores[:50]]
        return (
            gr.update(value=shown, visible=bool(shown)),
            fmt.as_chart(answer),
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
    ) -> Any:
        if not wanted or not label:
            return None
        file = chosen(source, image, drawing)
        with lease(store, key, TASK) as clip:
            return heat_overlay(clip.pictures.open(file), clip.look(file, label, templates))

    where = [tab["look"], *asked, result["look_label"], tab["templates"], tab["picker"].dropdown]
    tab["picture_tab"].select(lambda: "picture", None, tab["source"], **PAGE_EVENT)
    tab["draw_tab"].select(lambda: "draw", None, tab["source"], **PAGE_EVENT)
    tab["look"].change(
        lambda on: gr.update(visible=on), tab["look"], result["look_box"], **PAGE_EVENT
    )

    def run_after(event: Any) -> None:
        """Classify when `event` comes, then draw where the model looks if that is wanted."""
        event(
            classify,
            [*asked, tab["labels"], tab["templates"], tab["picker"].dropdown],
            [
                result["notices"],
                result["chart"],
                result["table"],
                result["look_label"],
                result["download"],
            ],
            api_visibility="private",
            show_progress_on=[result["chart"]],
            scroll_to_output=True,
            **BATCHED_QUEUE,
        ).success(show_where, where, result["overlay"], api_visibility="private", **BATCHED_QUEUE)

    run_after(partial(gr.on, [tab["run"].click, tab["labels"].submit]))
    for strip in tab["strip"].strips:
        strip.click(
            lambda: ("picture", gr.update(selected="picture")),
            None,
            [tab["source"], tab["tabs"]],
            **PAGE_EVENT,
        )
    wire_example_strip(
        tab["strip"],
        [tab["image"], tab["labels"]],
        tab["picker"].dropdown,
        lambda filled: run_after(filled.then),
    )
    gr.on(
        [result["look_label"].input, tab["look"].input],
        show_where,
        where,
        result["overlay"],
        api_visibility="private",
        **BATCHED_QUEUE,
    )
