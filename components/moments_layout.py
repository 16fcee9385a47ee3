"""How the Moments tab is laid out: what a person sets, and what they get."""

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from components.widgets.common import ExampleStrip, ModelPicker, example_strip, model_picker
from components.widgets.examples import moments_examples
from components.widgets.player import Player, fit_choice, frame_gallery, result_player
from pipelines.models.catalogue import Task
from pipelines.models.viclip.windows import MOST_MOMENTS, SearchOptions

TASK: Task = "video-text"

HOW_TO_READ = (
    "Windows of a few seconds are slid over the whole video, and each is compared with your "
    "text. **Score** says how your text fares against a fixed list of neutral texts; the curve "
    "shows it over time, relative to its highest point. **Verdict** says whether the text fits "
    "at all. What was computed of a video is kept for a while, so further texts are quick."
)

EMPTY = (
    "<p class='empty'>Choose one or several videos, write what should happen, press Find. "
    "Or start with one of the examples.</p>"
)


@dataclass(frozen=True)
class Controls:
    """What a person sets."""

    videos: gr.File
    strip: ExampleStrip
    query: gr.Textbox
    run: gr.Button
    stop: gr.Button
    window: gr.Slider
    stride: gr.Slider
    top_k: gr.Slider
    fit: gr.Dropdown
    picker: ModelPicker

    @property
    def inputs(self) -> set[Any]:
        """What a search is given, by component."""
        asked = {self.videos, self.query, self.window, self.stride, self.top_k, self.fit}
        return {*asked, self.picker.dropdown}

    def options(self, values: dict[Any, Any]) -> SearchOptions:
        """Return how videos are searched, of a request's values by component.

        Raises:
            InputError: a value is out of its range.
        """
        return SearchOptions(
            values[self.window], values[self.stride], values[self.top_k], values[self.fit]
        )


@dataclass(frozen=True)
class Results:
    """What a person gets. `found` holds file, start and end of each moment; `chosen` is one."""

    notices: gr.HTML
    player: Player
    curve: gr.HTML
    moments: gr.Gallery
    table: gr.HTML
    csv: gr.DownloadButton
    srt: gr.DownloadButton
    cut: gr.Button
    clip: gr.DownloadButton
    found: gr.State
    chosen: gr.State

    @property
    def outputs(self) -> list[Any]:
        """The outputs of a search, in order."""
        return [
            self.notices, self.player, self.curve, self.moments, self.table, self.csv, self.srt,
            self.cut, self.clip, self.found, self.chosen,
        ]  # fmt: skip


def lay_out_controls() -> Controls:
    """Lay out what a person sets."""
    videos = gr.File(label="Videos", file_count="multiple", height=160)
    strip = example_strip(lambda: gr.Video(render=False), *moments_examples())
    files = tuple([[[row[0]], *row[1:]] for row in rows] for rows in strip.rows)
    strip = replace(strip, rows=files)  # shown is a video, filled in are files
    query = gr.Textbox(
        label="What happens", placeholder="a red circle moves to the left", max_lines=4
    )
    with gr.Row():
        run = gr.Button("Find", variant="primary", elem_classes="go")
        stop = gr.Button("Stop", min_width=80, scale=0)
    with gr.Accordion("Options", open=False):
        window = gr.Slider(
            0.5, 30, 4.0, step=0.5, label="Window",
            info="Length of the parts that are compared with the text, in seconds.",
        )  # fmt: skip
        stride = gr.Slider(
            0.25, 10, 1.0, step=0.25, label="Stride",
            info="From one part to the next, in seconds. Smaller is finer, and takes longer.",
        )  # fmt: skip
        top_k = gr.Slider(1, min(20, MOST_MOMENTS), 5, step=1, label="Most moments of a video")
        fit = fit_choice()
    picker = model_picker(TASK)
    return Controls(videos, strip, query, run, stop, window, stride, top_k, fit, picker)


def lay_out_results() -> Results:
    """Lay out what a person gets."""
    notices = gr.HTML(visible=False, padding=False)
    player = result_player()
    curve = gr.HTML(visible=False, padding=False)
    moments = frame_gallery("Moments: click one to go there")
    table = gr.HTML(EMPTY, padding=False)
    with gr.Row():
        csv = gr.DownloadButton("CSV", visible=False, size="sm", min_width=100)
        srt = gr.DownloadButton("Subtitles", visible=False, size="sm", min_width=100)
        cut = gr.Button("Cut out moment 1", visible=False, size="sm", min_width=140)
        clip = gr.DownloadButton("Download clip", visible=False, size="sm", min_width=140)
    with gr.Accordion("How to read the curve", open=False):
        gr.Markdown(HOW_TO_READ)
    return Results(
        notices, player, curve, moments, table, csv, srt, cut, clip, gr.State([]), gr.State(0)
    )
