"""Where in one or several videos a text happens."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
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
    result_path,
    save_result,
    wire_example_strip,
    wire_model_picker,
    worked_off,
)
from components.widgets.examples import moments_examples
from components.widgets.model_lease import lease
from components.widgets.player import Player, chosen_of, fit_choice, frame_gallery, result_player
from pipelines.compute.background import await_work
from pipelines.core.cancel import CancelToken
from pipelines.core.errors import InputError
from pipelines.core.settings import Settings
from pipelines.core.spec import Task
from pipelines.core.text import split_lines
from pipelines.media.video.container import check_file
from pipelines.media.video.open import key_frames
from pipelines.media.video.writer import write_clip
from pipelines.models.viclip.results import MomentSearch
from pipelines.models.viclip.windows import MOST_MOMENTS, SearchOptions
from pipelines.serving.store import PipelineStore

TASK: Task = "video-text"

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


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out the tab."""
    store = services.store
    with gr.Tab("Moments", id="moments"):
        gr.Markdown(
            "Where in a video does it happen? Search one video or several, however long.",
            elem_classes="lead",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls = lay_out_controls()
            with gr.Column(scale=6, min_width=300):
                results = lay_out_results()
    wire_model_picker(store, TASK, controls.picker, page)
    _wire_search(store, controls, results)
    _wire_moments(store, controls, results)
    _wire_cutting(store, controls, results)


def _wire_search(store: PipelineStore, controls: Controls, results: Results) -> None:
    """Wire what asks a model."""
    find = _finder(store, controls)
    running = []

    def run_after(event: Any) -> None:
        """Search when `event` comes."""
        running.append(
            event(
                find,
                controls.inputs,
                results.outputs,
                show_progress_on=[results.table],
                scroll_to_output=True,
                api_visibility="private",
                **DEVICE_QUEUE,
            )
        )

    run_after(partial(gr.on, [controls.run.click, controls.query.submit]))
    wire_example_strip(
        controls.strip,
        [controls.videos, controls.query],
        controls.picker.dropdown,
        lambda filled: run_after(filled.then),
    )
    controls.stop.click(None, cancels=running, api_visibility="private")


def _wire_moments(store: PipelineStore, controls: Controls, results: Results) -> None:
    """Wire what is done with the moments that were found."""
    uploads = Uploads(store.settings)

    @show_errors
    def show_first(videos: list[str] | None) -> tuple[Any, ...]:
        """Show the first of new videos, in place of what was found in others."""
        if not videos:
            return _emptied(gr.update(value=None, visible=False))
        first = uploads.path(videos[0], "The video")
        check_file(first)
        return _emptied(gr.update(value=str(first), visible=True))

    @show_errors
    def go_to(found: list[tuple[str, float, float]], chosen: int, event: gr.SelectData) -> Any:
        number = int(event.index)
        file, start, _ = chosen_of(found, number)
        player = gr.update(playback_position=start)
        if file != found[chosen][0]:
            player["value"] = file
        cut = gr.update(value=say("Cut out moment {number}", number=number + 1))
        return player, number, cut, gr.update(visible=False)

    controls.videos.upload(show_first, controls.videos, results.outputs, **PAGE_EVENT)
    results.moments.select(
        go_to,
        [results.found, results.chosen],
        [results.player, results.chosen, results.cut, results.clip],
        **PAGE_EVENT,
    )


def _wire_cutting(store: PipelineStore, controls: Controls, results: Results) -> None:
    """Wire how a moment becomes a file of its own."""
    uploads = Uploads(store.settings)

    @show_errors
    def cut_out(found: list[tuple[str, float, float]], chosen: int) -> Iterator[Any]:
        if not found:
            raise InputError("There is no moment to cut out. Press Find first.")
        file, start, end = found[chosen]
        video = uploads.path(file, "The video")
        target = result_path(store.settings, f"moment-{chosen + 1}.mp4")
        yield from await_work(
            lambda cancel: write_clip(video, start, end, target, cancel=cancel), gr.skip()
        )
        label = say("Download clip {number}", number=chosen + 1)
        yield gr.update(value=str(target), label=label, visible=True)

    cut = results.cut.click(
        cut_out,
        [results.found, results.chosen],
        results.clip,
        api_visibility="private",
        **DEVICE_QUEUE,
    )
    controls.stop.click(None, cancels=cut, api_visibility="private")


def _finder(store: PipelineStore, controls: Controls) -> Callable[..., Any]:
    uploads = Uploads(store.settings)

    @show_errors
    def find(
        values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        files = uploads.paths(values[controls.videos], "The video")
        options = controls.options(values)
        query = values[controls.query]
        text = " ".join(split_lines(query, "What happens", distinct=False)[0])
        spec = store.resolve(values[controls.picker.dropdown], TASK)
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait((gr.skip(),) * 11)
            viclip = lent.pipeline
            for _ in worked_off(viclip.prepare([text]), progress):
                yield (gr.skip(),) * 11
            for _ in worked_off(viclip.search(files, options), progress):
                yield (gr.skip(),) * 11
            search = viclip.moments(files, text, options)
        notices = fmt.notices(format_video.search_notes(search), badge(store, spec))
        gallery = yield from await_work(
            lambda cancel: _gallery(search, files, cancel), (gr.skip(),) * 11
        )
        yield (fmt.shown_if_any(notices), *_shown(store.settings, search, files, gallery))

    return find


def _emptied(player: Any) -> tuple[Any, ...]:
    """Return the values of the outputs of a search where nothing was found yet."""
    gone = gr.update(visible=False)
    return (gone, player, gone, gone, EMPTY, gone, gone, gone, gone, [], 0)


def _shown(
    settings: Settings, search: MomentSearch, files: list[Path], gallery: list[tuple[Any, str]]
) -> tuple[Any, ...]:
    """Return the values of the outputs of a search but the first."""
    names = [file.name for file in files]
    found = [(str(files[v.index]), m.start_s, m.end_s) for v, m in format_video.listed(search)]
    csv = save_result(settings, "moments.csv", format_video.moments_csv(search, names))
    srt = save_result(settings, *format_video.subtitles(search, names))
    first, start, _ = found[0]
    return (
        gr.update(value=first, visible=True, playback_position=start),
        gr.update(value=format_video.curves(search, names), visible=True),
        gr.update(value=gallery, visible=True),
        format_video.moments_table(search, names),
        gr.update(value=csv, visible=True),
        gr.update(value=srt, visible=True),
        gr.update(value="Cut out moment 1", visible=True),
        gr.update(visible=False),
        found,
        0,
    )


def _gallery(search: MomentSearch, files: list[Path], cancel: CancelToken) -> list[tuple[Any, str]]:
    """Return picture and caption of each moment, in the order of the table."""
    pictures: list[tuple[Any, str]] = []
    for video in search.videos:
        times = [moment.key_s for moment in video.moments]
        frames = key_frames(files[video.index], times, cancel=cancel)
        for moment, frame in zip(video.moments, frames, strict=True):
            number = len(pictures) + 1
            pictures.append((frame, f"{number} · {clock(moment.start_s)}"))
    return pictures
