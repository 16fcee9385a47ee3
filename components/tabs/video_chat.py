"""A conversation about a video, short or long."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from components import video_chat_run
from components.chat_times import as_markdown, from_markdown
from components.video_chat_run import Controls
from components.widgets import chat
from components.widgets.chat import Panel, Subject, Wording
from components.widgets.common import (
    AHEAD_QUEUE,
    PAGE_EVENT,
    ExampleStrip,
    ModelPicker,
    example_strip,
    model_picker,
    wire_example_strip,
    wire_model_picker,
)
from components.widgets.examples import video_chat_examples
from components.widgets.generation import generation_settings
from components.widgets.player import Player
from pipelines.models.catalogue import Task
from pipelines.serving.store import PipelineStore

TASK: Task = "video-chat"

#: Largest number of frames on the slider; scripts may ask for more.
MOST_FRAMES = 512

EMPTY = (
    "Choose a video and ask about it: what happens, what comes first, what changes, when. "
    "Times in an answer can be clicked."
)

HOW_IT_LOOKS = (
    "The model looks at frames spread evenly over the video, or over the part you choose; those "
    "below the player. Each costs 16 tokens of what it can read at once. What it has seen of a "
    "video is kept for a while, so a further question costs its own words only."
)


@dataclass(frozen=True)
class Layout:
    """The components of the tab."""

    controls: Controls
    strip: ExampleStrip
    picker: ModelPicker
    plan: gr.HTML
    film: gr.HTML
    shown: gr.State
    panel: Panel


def build(store: PipelineStore, page: gr.Blocks) -> None:
    """Lay out the tab."""
    with gr.Tab("Video chat", id="video-chat"):
        gr.Markdown(
            "What happens in this video? Ask in as many turns as you like.", elem_classes="lead"
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls, picker, strip, plan, film = _lay_out_video()
            with gr.Column(scale=6, min_width=300):
                wording = Wording(as_markdown, from_markdown, markdown=True)
                panel = chat.lay_out(EMPTY, "What happens in the video?", wording)
    layout = Layout(controls, strip, picker, plan, film, gr.State(None), panel)
    wire_model_picker(store, TASK, layout.picker, page)
    _wire(store, layout)


def _lay_out_video() -> tuple[Controls, ModelPicker, ExampleStrip, gr.HTML, gr.HTML]:
    video = Player(label="Video", height=320, sources=["upload"])
    film = gr.HTML(visible=False, padding=False)
    strip = example_strip(lambda: gr.Video(render=False), *video_chat_examples())
    plan = gr.HTML(visible=False, padding=False)
    with gr.Accordion("How closely, and which part", open=False):
        max_frames = gr.Slider(
            8,
            MOST_FRAMES,
            64,
            step=8,
            label="Most frames",
            info="More frames see more of a long video, and take longer.",
        )
        with gr.Row():
            start = gr.Number(
                0.0, label="From (s)", info="0 for the start.", minimum=0, min_width=120
            )
            end = gr.Number(0.0, label="To (s)", info="0 for the end.", minimum=0, min_width=120)
        compress = gr.Checkbox(
            False,
            label="Skim",
            info="Inside the model most of the video is set aside after a first look. Long videos "
            "are answered faster; small things may be missed.",
        )
        gr.Markdown(HOW_IT_LOOKS)
    settings = generation_settings(256, longest=1024, beams=False)
    picker = model_picker(TASK)
    controls = Controls(video, max_frames, start, end, compress, picker.dropdown, settings)
    return controls, picker, strip, plan, film


def _wire(store: PipelineStore, layout: Layout) -> None:
    controls, panel = layout.controls, layout.panel
    subject = Subject(
        controls.video,
        missing="The video is missing. Upload or choose one.",
        empty="The question is empty. Ask something about the video.",
    )
    chat.wire(
        panel,
        subject,
        video_chat_run.answering(store, controls, panel, layout.shown),
        [*controls.inputs, layout.shown],
        also=[layout.film, layout.shown],
        emptied=[gr.update(value="", visible=False), None],
    )
    _wire_ahead(store, layout)

    def keep_question(filled: Any) -> None:
        """An example fills in video and question; the person presses Ask."""

    wire_example_strip(
        layout.strip,
        [controls.video, panel.question],
        controls.model,
        keep_question,
    )


def _wire_ahead(store: PipelineStore, layout: Layout) -> None:
    """Prepare the video whenever it, or what of it is looked at, changes."""
    controls = layout.controls
    changes = [
        controls.video.change,
        controls.max_frames.release,
        controls.start.change,
        controls.end.change,
        controls.compress.input,
        controls.model.input,
    ]
    count = gr.State(0)
    ahead = count.change(
        video_chat_run.looking_ahead(store, controls),
        {*controls.inputs, controls.video},
        layout.plan,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="multiple",
        **AHEAD_QUEUE,
    )
    # a step of its own, so that what it cancels is never the run that it begins
    gr.on(changes, lambda number: number + 1, count, count, cancels=[ahead], **PAGE_EVENT)
