"""Which text fits a video, or a part of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.render import video as format_video
from components.render.html import clock, paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.server.uploads import Uploads
from components.widgets.common import (
    DEVICE_QUEUE,
    PAGE_EVENT,
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
from components.widgets.examples import match_examples
from components.widgets.model_lease import lease
from components.widgets.player import Player, chosen_of, fit_choice, frame_gallery
from pipelines.compute.background import await_work
from pipelines.core.spec import Task
from pipelines.core.text import split_lines
from pipelines.media.video.open import key_frames
from pipelines.serving.store import PipelineStore

TASK: Task = "video-text"

HOW_TO_READ = (
    "The model sees a few frames, spread evenly over the video or the part you choose: those "
    "below. **Probability** shares the video among your texts: with one text it is always "
    "100 %. **Cosine** is the model's raw similarity. **Verdict** says whether a text fits at "
    "all: it compares the text's cosine with what this video scores on a fixed list of neutral "
    "texts, so other texts never change it."
)

EMPTY = paragraph("Choose a video, write texts, press Match. Or start with one of the examples.")


@dataclass(frozen=True)
class Controls:
    """What a person sets."""

    video: Player
    strip: ExampleStrip
    texts: gr.Textbox
    run: gr.Button
    stop: gr.Button
    start: gr.Number
    end: gr.Number
    fit: gr.Dropdown
    picker: ModelPicker


@dataclass(frozen=True)
class Results:
    """What a person gets."""

    notices: gr.HTML
    chart: gr.Label
    table: gr.HTML
    frames: gr.Gallery
    times: gr.State
    download: gr.DownloadButton

    @property
    def outputs(self) -> list[Any]:
        """The outputs of a match, in order."""
        return [self.notices, self.chart, self.table, self.frames, self.times, self.download]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out the tab."""
    store = services.store
    with gr.Tab("Match", id="match"):
        gr.Markdown(
            "Which of your texts fits this video? Whole sentences work best, and motion counts.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls = _lay_out_controls()
            with gr.Column(scale=6, min_width=300):
                results = _lay_out_results()
    wire_model_picker(store, TASK, controls.picker, page)
    _wire(store, controls, results)


def _lay_out_controls() -> Controls:
    video = Player(label="Video", height=300, sources=["upload"])
    strip = example_strip(lambda: gr.Video(render=False), *match_examples())
    texts = gr.Textbox(
        label="Texts",
        lines=4,
        max_lines=12,
        info="One per line.",
        placeholder="a red circle moves to the left\na blue square moves up",
    )
    with gr.Row():
        run = gr.Button("Match", variant="primary", elem_classes="go")
        stop = gr.Button("Stop", min_width=80, scale=0)
    with gr.Accordion("Part of the video, shape of the frames", open=False):
        with gr.Row():
            start = gr.Number(
                0.0, label="From (s)", info="0 for the start.", minimum=0, min_width=120
            )
            end = gr.Number(0.0, label="To (s)", info="0 for the end.", minimum=0, min_width=120)
        fit = fit_choice()
    return Controls(video, strip, texts, run, stop, start, end, fit, model_picker(TASK))


def _lay_out_results() -> Results:
    notices = gr.HTML(visible=False, padding=False)
    chart = gr.Label(
        label="Best texts", num_top_classes=fmt.BARS_SHOWN, visible=False, elem_classes="chart"
    )
    table = gr.HTML(EMPTY, padding=False)
    frames = frame_gallery("What the model saw: click a frame to go there")
    download = gr.DownloadButton("Download as CSV", visible=False, size="sm")
    with gr.Accordion("How to read the scores", open=False):
        gr.Markdown(HOW_TO_READ)
    return Results(notices, chart, table, frames, gr.State([]), download)


def _wire(store: PipelineStore, controls: Controls, results: Results) -> None:
    match = _handler(store)
    asked = [controls.video, controls.texts, controls.start, controls.end, controls.fit]
    running = []

    def run_after(event: Any) -> None:
        """Match when `event` comes."""
        running.append(
            event(
                match,
                [*asked, controls.picker.dropdown],
                results.outputs,
                show_progress_on=[results.table],
                scroll_to_output=True,
                api_visibility="private",
                **DEVICE_QUEUE,
            )
        )

    run_after(partial(gr.on, [controls.run.click]))
    wire_example_strip(
        controls.strip,
        [controls.video, controls.texts],
        controls.picker.dropdown,
        lambda filled: run_after(filled.then),
    )
    controls.stop.click(None, cancels=running, api_visibility="private")

    @show_errors
    def go_to(times: list[float], event: gr.SelectData) -> Any:
        return gr.update(playback_position=chosen_of(times, int(event.index)))

    def empty() -> tuple[Any, ...]:
        """Take away the answer about another video."""
        gone = gr.update(visible=False)
        return gone, gone, EMPTY, gone, [], gone

    results.frames.select(go_to, results.times, controls.video, **PAGE_EVENT)
    changes = [controls.video.upload, controls.video.clear]
    gr.on(changes, empty, None, results.outputs, **PAGE_EVENT)


def _handler(store: PipelineStore) -> Callable[..., Any]:
    uploads = Uploads(store.settings)

    @show_errors
    def match(
        video: str | None,
        texts: str,
        start_s: float | None,
        end_s: float | None,
        fit: str,
        key: str,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[tuple[Any, ...]]:
        file = uploads.path(video, "The video")
        lines, repeated = split_lines(texts, "texts")
        spec = store.resolve(key, TASK)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait((gr.skip(),) * 6)
            viclip = lent.pipeline
            for _ in worked_off(viclip.prepare(lines), progress):
                yield (gr.skip(),) * 6
            part = {"start_s": start_s or 0.0, "end_s": end_s or 0.0}
            for found in viclip.stream_match(file, lines, **part, fit=fit):
                if found is None:
                    progress(0.0, desc=say("Looking at the video"))
                    yield (gr.skip(),) * 6
        notes = format_video.match_notes(found, repeated)
        csv = save_result(store.settings, "scores.csv", fmt.scores_csv(found.answer))
        times = [clock(time_s) for time_s in found.frame_times_s]
        frames = yield from await_work(
            lambda cancel: key_frames(file, found.frame_times_s, cancel=cancel),
            (gr.skip(),) * 6,
        )
        seen = list(zip(frames, times, strict=True))
        yield (
            fmt.shown_if_any(fmt.notices(notes, badge(store, spec))),
            gr.update(value=fmt.as_chart(found.answer), visible=True),
            fmt.scores_table(found.answer, "Text"),
            gr.update(value=seen, visible=True),
            list(found.frame_times_s),
            gr.update(value=csv, visible=True),
        )

    return match
