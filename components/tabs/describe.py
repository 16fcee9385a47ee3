"""One image in words: a caption, or a conversation about it."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from components import describe_caption, describe_chat
from components.widgets.common import (
    ExampleStrip,
    ModelPicker,
    example_strip,
    model_picker,
    wire_example_strip,
    wire_model_picker,
)
from components.widgets.examples import describe_examples
from components.widgets.generation import GenerationControls, generation_settings, wire_longest
from pipelines.models.catalogue import Task
from pipelines.serving.store import PipelineStore

TASK: Task = "caption"


@dataclass(frozen=True)
class Subject:
    """What is talked about, and by which model."""

    image: gr.Image
    strip: ExampleStrip
    picker: ModelPicker
    settings: GenerationControls


def build(store: PipelineStore, page: gr.Blocks) -> None:
    """Lay out the tab."""
    with gr.Tab("Describe", id="describe"):
        gr.Markdown(
            "What is in this picture? Get a caption, or ask about it in as many turns as you like.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                subject = _lay_out_subject()
            with gr.Column(scale=6, min_width=300), gr.Tabs():
                asked = (subject.image, subject.picker.dropdown, subject.settings)
                with gr.Tab("Caption", id="caption"):
                    caption = describe_caption.build(store, *asked)
                with gr.Tab("Ask", id="ask"):
                    describe_chat.build(store, *asked)
    wire_model_picker(store, TASK, subject.picker, page)
    wire_longest(subject.settings, subject.picker.dropdown, page)

    def run_caption(filled: Any) -> None:
        filled.then(**caption)

    wire_example_strip(subject.strip, [subject.image], subject.picker.dropdown, run_caption)


def _lay_out_subject() -> Subject:
    image = gr.Image(
        type="filepath",
        image_mode=None,  # the file as it is: pipelines.media.images brings every mode to RGB
        label="Picture",
        height=320,
        sources=["upload", "clipboard", "webcam"],
    )
    strip = example_strip(lambda: gr.Image(type="filepath", render=False), *describe_examples())
    picker = model_picker(TASK)
    return Subject(image, strip, picker, generation_settings(40))
