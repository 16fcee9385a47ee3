"""Where in one or several videos a text happens."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from components.moments_layout import (
    EMPTY,
    TASK,
    Controls,
    Results,
    lay_out_controls,
    lay_out_results,
)
from components.render import scores as fmt
from components.render import video as format_video
from components.server.blocks import show_errors
from components.server.uploads import Uploads
from components.widgets.common import (
    DEVICE_QUEUE,
    PAGE_EVENT,
    badge,
    result_path,
    save_result,
    wire_example_strip,
    wire_model_picker,
    worked_off,
)
from components.widgets.model_lease import lease
from components.widgets.player import chosen_of
from pipelines.compute.background import stoppable
from pipelines.core.errors import InputError
from pipelines.core.settings import Settings
from pipelines.core.text import split_lines
from pipelines.media.video.container import check_file
from pipelines.media.video.writer import write_clip
from pipelines.models.viclip.results import MomentSearch
from pipelines.serving.store import PipelineStore
from pipelines.video_key_frames import key_frames


def build(store: PipelineStore, page: gr.Blocks) -> None:
    """Lay out the tab."""
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
        cut = gr.update(value=f"Cut out moment {number + 1}")
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
        yield from stoppable(
            lambda stop: write_clip(video, start, end, target, should_stop=stop), gr.skip()
        )
        yield gr.update(value=str(target), label=f"Download clip {chosen + 1}", visible=True)

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
        gallery = yield from stoppable(
            lambda stop: _gallery(search, files, stop), (gr.skip(),) * 11
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


def _gallery(
    search: MomentSearch, files: list[Path], should_stop: Callable[[], bool]
) -> list[tuple[Any, str]]:
    """Return picture and caption of each moment, in the order of the table."""
    pictures: list[tuple[Any, str]] = []
    for video in search.videos:
        times = [moment.key_s for moment in video.moments]
        frames = key_frames(files[video.index], times, should_stop=should_stop)
        for moment, frame in zip(video.moments, frames, strict=True):
            number = len(pictures) + 1
            pictures.append((frame, f"{number} · {format_video.clock(moment.start_s)}"))
    return pictures
