"""Which text fits a video, or a part of it."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.jobs.video_text import TASK, match_texts
from components.render import scores as fmt
from components.render import video as format_video
from components.render.html import clock, paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.widgets.examples import example_strip, match_examples, wire_example_strip
from components.widgets.layout import (
    HIDDEN,
    TabHandlers,
    hidden_html,
    lay_out_tab,
    offer,
    run_and_stop,
    show,
    time_range,
)
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.player import Player, chosen_of, fit_choice, frame_gallery
from components.widgets.queues import DEVICE_QUEUE, PAGE_EVENT, page_request
from pipelines.compute.background import await_work
from pipelines.core.text import split_lines
from pipelines.media.video.open import key_frames

HOW_TO_READ = (
    "The model sees a few frames, spread evenly over the video or the part you choose: those "
    "below. **Probability** shares the video among your texts: with one text it is always "
    "100 %. **Cosine** is the model's raw similarity. **Verdict** says whether a text fits at "
    "all: it compares the text's cosine with what this video scores on a fixed list of neutral "
    "texts, so other texts never change it."
)

EMPTY = paragraph("Choose a video, write texts, press Match. Or start with one of the examples.")


class Controls:
    """Input components of the tab."""

    def __init__(self) -> None:
        self.video = Player(label="Video", height=300, sources=["upload"])
        self.strip = example_strip(lambda: gr.Video(render=False), *match_examples())
        self.texts = gr.Textbox(
            label="Texts",
            lines=4,
            max_lines=12,
            info="One per line.",
            placeholder="a red circle moves to the left\na blue square moves up",
        )
        self.run, self.stop = run_and_stop("Match")
        with gr.Accordion("Part of the video, shape of the frames", open=False):
            self.start, self.end = time_range()
            self.fit = fit_choice()
        self.picker = ModelPicker(TASK)
        asked = {self.video, self.texts, self.start, self.end, self.fit}
        self.inputs: set[Any] = {*asked, self.picker.dropdown}


class Results:
    """Output components of the tab."""

    def __init__(self) -> None:
        self.notices = hidden_html()
        self.chart = gr.Label(
            label="Best texts", num_top_classes=fmt.BARS_SHOWN, visible=False, elem_classes="chart"
        )
        self.table = gr.HTML(EMPTY, padding=False)
        self.frames = frame_gallery("What the model saw: click a frame to go there")
        self.download = gr.DownloadButton("Download as CSV", visible=False, size="sm")
        with gr.Accordion("How to read the scores", open=False):
            gr.Markdown(HOW_TO_READ)
        self.times = gr.State([])
        shown = [self.notices, self.chart, self.table, self.frames]
        self.outputs: list[Any] = [*shown, self.times, self.download]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    lead = "Which of your texts fits this video? Whole sentences work best, and motion counts."
    _, controls, results = lay_out_tab("Match", lead, Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    _wire(Handlers(services, controls), controls, results)


#: Values of the outputs of a match that change nothing.
_NOTHING = (gr.skip(),) * 6


class Handlers(TabHandlers[Controls]):
    """Handlers of the events."""

    @show_errors
    def match(
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `Results.outputs`."""
        controls = self._controls
        file = self._uploads.path(values[controls.video], "The video")
        lines, repeated = split_lines(values[controls.texts], "texts")
        spec = self._store.resolve(values[controls.picker.dropdown], TASK)
        start_s, end_s = values[controls.start] or 0.0, values[controls.end] or 0.0
        part: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "fit": values[controls.fit]}
        found = yield from match_texts(
            self._store, spec, file, lines, _NOTHING, **part, progress=progress
        )
        frames = yield from await_work(
            lambda cancel: key_frames(file, found.frame_times_s, cancel=cancel), _NOTHING
        )
        times = map(clock, found.frame_times_s)
        yield (
            notices_of(self._store, spec, format_video.match_notes(found, repeated)),
            show(fmt.as_chart(found.answer)),
            fmt.scores_table(found.answer, "Text"),
            show(list(zip(frames, times, strict=True))),
            list(found.frame_times_s),
            offer(self._settings, "scores.csv", fmt.scores_csv(found.answer)),
        )

    @show_errors
    def go_to(self, times: list[float], event: gr.SelectData) -> Any:
        """Return the player at the frame that was clicked."""
        return gr.update(playback_position=chosen_of(times, int(event.index)))

    def empty(self) -> tuple[Any, ...]:
        """Return the outputs without the answer about another video."""
        return HIDDEN, HIDDEN, EMPTY, HIDDEN, [], HIDDEN


def _wire(handlers: Handlers, controls: Controls, results: Results) -> None:
    match = page_request(
        handlers.match, controls.inputs, results.outputs, results.table, DEVICE_QUEUE
    )
    running = [gr.on([controls.run.click], **match)]
    inputs = [controls.video, controls.texts]
    for filled in wire_example_strip(controls.strip, inputs, controls.picker.dropdown):
        running.append(filled.then(**match))
    controls.stop.click(None, cancels=running, api_visibility="private")
    results.frames.select(handlers.go_to, results.times, controls.video, **PAGE_EVENT)
    changes = [controls.video.upload, controls.video.clear]
    gr.on(changes, handlers.empty, None, results.outputs, **PAGE_EVENT)
