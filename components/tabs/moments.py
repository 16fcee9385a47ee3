"""Where in one or several videos a text happens."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from components.jobs.video_text import TASK, find_moments
from components.render import video as format_video
from components.render.html import clock, paragraph
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.widgets.examples import example_strip, moments_examples, wire_example_strip
from components.widgets.layout import (
    HIDDEN,
    TabHandlers,
    download_button,
    hidden_html,
    lay_out_tab,
    offer,
    result_path,
    run_and_stop,
    show,
)
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.player import chosen_of, fit_choice, frame_gallery, result_player
from components.widgets.queues import DEVICE_QUEUE, PAGE_EVENT, page_request
from pipelines.compute.background import await_work
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError
from pipelines.core.text import every_line
from pipelines.media.video.container import check_file
from pipelines.media.video.open import key_frames
from pipelines.media.video.writer import write_clip
from pipelines.models.viclip.results import MomentSearch
from pipelines.models.viclip.windows import MOST_MOMENTS, SearchOptions

HOW_TO_READ = (
    "Windows of a few seconds are slid over the whole video, and each is compared with your "
    "text. **Score** says how your text fares against a fixed list of neutral texts; the curve "
    "shows it over time, relative to its highest point. **Verdict** says whether the text fits "
    "at all. What was computed of a video is kept for a while, so further texts are quick."
)

EMPTY = paragraph(
    "Choose one or several videos, write what should happen, press Find. "
    "Or start with one of the examples."
)


class Controls:
    """Input components of the tab."""

    def __init__(self) -> None:
        self.videos = gr.File(label="Videos", file_count="multiple", height=160)
        self.strip = example_strip(lambda: gr.Video(render=False), *moments_examples())
        files = tuple([[[row[0]], *row[1:]] for row in rows] for rows in self.strip.rows)
        self.strip = replace(self.strip, rows=files)  # shown is a video, filled in are files
        self.query = gr.Textbox(
            label="What happens", placeholder="a red circle moves to the left", max_lines=4
        )
        self.run, self.stop = run_and_stop("Find")
        with gr.Accordion("Options", open=False):
            self.window = gr.Slider(
                0.5, 30, 4.0, step=0.5, label="Window",
                info="Length of the parts that are compared with the text, in seconds.",
            )  # fmt: skip
            self.stride = gr.Slider(
                0.25, 10, 1.0, step=0.25, label="Stride",
                info="From one part to the next, in seconds. Smaller is finer, and takes longer.",
            )  # fmt: skip
            self.top_k = gr.Slider(
                1, min(20, MOST_MOMENTS), 5, step=1, label="Most moments of a video"
            )
            self.fit = fit_choice()
        self.picker = ModelPicker(TASK)
        self.options = [self.window, self.stride, self.top_k, self.fit]
        self.inputs: set[Any] = {self.videos, self.query, *self.options, self.picker.dropdown}


class Results:
    """Output components. `found` holds file, start and end of each moment; `chosen` is one."""

    def __init__(self) -> None:
        self.notices = hidden_html()
        self.player = result_player()
        self.curve = hidden_html()
        self.moments = frame_gallery("Moments: click one to go there")
        self.table = gr.HTML(EMPTY, padding=False)
        with gr.Row():
            self.csv = download_button("CSV", 100)
            self.srt = download_button("Subtitles", 100)
            self.cut = gr.Button("Cut out moment 1", visible=False, size="sm", min_width=140)
            self.clip = download_button("Download clip")
        with gr.Accordion("How to read the curve", open=False):
            gr.Markdown(HOW_TO_READ)
        self.found = gr.State([])
        self.chosen = gr.State(0)
        shown = [self.notices, self.player, self.curve, self.moments, self.table]
        files = [self.csv, self.srt, self.cut, self.clip]
        self.outputs: list[Any] = [*shown, *files, self.found, self.chosen]


#: A moment that was found: its file, start and end in seconds.
Found = tuple[str, float, float]


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    lead = "Where in a video does it happen? Search one video or several, however long."
    _, controls, results = lay_out_tab("Moments", lead, Controls, Results)
    wire_model_picker(services.store, TASK, controls.picker, page)
    handlers = Handlers(services, controls)
    _wire_search(handlers, controls, results)
    _wire_moments(handlers, controls, results)


#: Values of the outputs of a search that change nothing.
_NOTHING = (gr.skip(),) * 11


class Handlers(TabHandlers[Controls]):
    """Handlers of the events."""

    @show_errors
    def find(
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `Results.outputs`."""
        controls = self._controls
        files = self._uploads.paths(values[controls.videos], "The video")
        options = SearchOptions(*(values[one] for one in controls.options))
        lines = filter(None, every_line(values[controls.query], "What happens"))
        spec = self._store.resolve(values[controls.picker.dropdown], TASK)
        found = yield from find_moments(
            self._store, spec, files, " ".join(lines), options, _NOTHING, progress
        )
        gallery = yield from await_work(lambda cancel: _gallery(found, files, cancel), _NOTHING)
        notices = notices_of(self._store, spec, format_video.search_notes(found))
        yield notices, *self._shown(found, files, gallery)

    @show_errors
    def show_first(self, videos: list[str] | None) -> tuple[Any, ...]:
        """Return the outputs with the first of new videos, without what others gave."""
        player = gr.update(value=None, visible=False)
        if videos:
            first = self._uploads.path(videos[0], "The video")
            check_file(first)
            player = show(str(first))
        return HIDDEN, player, HIDDEN, HIDDEN, EMPTY, *(HIDDEN,) * 4, [], 0

    @show_errors
    def go_to(self, found: list[Found], chosen: int, event: gr.SelectData) -> Any:
        """Return the player at the moment that was clicked, and what can be cut out."""
        number = int(event.index)
        file, start, _ = chosen_of(found, number)
        player = gr.update(playback_position=start)
        if file != found[chosen][0]:
            player["value"] = file
        cut = gr.update(value=say("Cut out moment {number}", number=number + 1))
        return player, number, cut, HIDDEN

    @show_errors
    def cut_out(self, found: list[Found], chosen: int) -> Iterator[Any]:
        """Write the chosen moment as a file of its own."""
        if not found:
            raise InputError("There is no moment to cut out. Press Find first.")
        file, start, end = found[chosen]
        video = self._uploads.path(file, "The video")
        target = result_path(self._settings, f"moment-{chosen + 1}.mp4")
        yield from await_work(
            lambda cancel: write_clip(video, start, end, target, cancel=cancel), gr.skip()
        )
        label = say("Download clip {number}", number=chosen + 1)
        yield gr.update(value=str(target), label=label, visible=True)

    def _shown(
        self, search: MomentSearch, files: list[Path], gallery: list[tuple[Any, str]]
    ) -> tuple[Any, ...]:
        """Return the values of the outputs of a search but the first."""
        names = [file.name for file in files]
        found = [(str(files[v.index]), m.start_s, m.end_s) for v, m in format_video.listed(search)]
        first, start, _ = found[0]
        return (
            gr.update(value=first, visible=True, playback_position=start),
            show(format_video.curves(search, names)),
            show(gallery),
            format_video.moments_table(search, names),
            offer(self._settings, "moments.csv", format_video.moments_csv(search, names)),
            offer(self._settings, *format_video.subtitles(search, names)),
            show(say("Cut out moment {number}", number=1)),
            HIDDEN,
            found,
            0,
        )


def _gallery(search: MomentSearch, files: list[Path], cancel: CancelToken) -> list[tuple[Any, str]]:
    """Return image and caption of each moment, in the order of the table."""
    images: list[tuple[Any, str]] = []
    for video in search.videos:
        times = [moment.key_s for moment in video.moments]
        frames = key_frames(files[video.index], times, cancel=cancel)
        for moment, frame in zip(video.moments, frames, strict=True):
            images.append((frame, f"{len(images) + 1} · {clock(moment.start_s)}"))
    return images


def _wire_search(handlers: Handlers, controls: Controls, results: Results) -> None:
    find = page_request(
        handlers.find, controls.inputs, results.outputs, results.table, DEVICE_QUEUE
    )
    running = [gr.on([controls.run.click, controls.query.submit], **find)]
    inputs = [controls.videos, controls.query]
    for filled in wire_example_strip(controls.strip, inputs, controls.picker.dropdown):
        running.append(filled.then(**find))
    controls.stop.click(None, cancels=running, api_visibility="private")


def _wire_moments(handlers: Handlers, controls: Controls, results: Results) -> None:
    """Wire new videos, and what is done with a moment that was found."""
    controls.videos.upload(handlers.show_first, controls.videos, results.outputs, **PAGE_EVENT)
    chosen = [results.found, results.chosen]
    opened = [results.player, results.chosen, results.cut, results.clip]
    results.moments.select(handlers.go_to, chosen, opened, **PAGE_EVENT)
    cut = results.cut.click(
        handlers.cut_out, chosen, results.clip, api_visibility="private", **DEVICE_QUEUE
    )
    controls.stop.click(None, cancels=cut, api_visibility="private")
