"""The handlers of the Search tab: fill an index, ask it, empty it."""

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from components.jobs.search_run import make_order, search
from components.render import scores as fmt
from components.render.search import (
    caption,
    found_csv,
    found_table,
    holding_line,
    outcome_summary,
    progress_line,
)
from components.server.blocks import show_errors
from components.server.uploads import Uploads
from components.widgets.common import badge, save_result
from components.widgets.player import chosen_of
from pipelines.core.errors import InputError, PipelineError
from pipelines.media.thumbnails import SIDE_PX, film_thumbnails
from pipelines.search.index_run import add_files
from pipelines.search.indexes import DELETE_WAIT_S, owner_of
from pipelines.search.query import Query, delete_files
from pipelines.search.results import FileKind, FileOutcome, Found, Search
from pipelines.serving.store import PipelineStore

#: Names of files that the list for deleting offers; others can be typed.
NAMES_SHOWN = 500

#: Outputs of a search.
_NUM_OUTPUTS = 7


class Handlers:
    """What the events of the tab call."""

    def __init__(self, store: PipelineStore) -> None:
        """Answer with the models and the indexes of `store`."""
        self._store = store
        self._uploads = Uploads(store.settings)

    @show_errors
    def tell(self, key: str) -> tuple[Any, Any]:
        """Return what the index holds, and the names of its files."""
        return self._told(key) if key else (gr.skip(), gr.skip())

    @show_errors
    def add(
        self, files: list[str] | None, key: str, model: str, video_model: str
    ) -> Iterator[tuple[Any, ...]]:
        """Bring files into the index; yields how far it is."""
        order = make_order(self._store, self._uploads, files, key, model, video_model)
        told: dict[int, FileOutcome] = {}
        sent = ""
        with closing(add_files(self._store, self._store.library, order)) as looks:
            for look in looks:
                told.update(look.new)
                line = progress_line(look.done, look.total, look.stage)
                yield (gr.skip() if line == sent else line), gr.skip(), *_buttons(running=True)
                sent = line
        summary = outcome_summary([told[index] for index in sorted(told)])
        holding, names = self._told(key)
        yield holding + summary, names, *_buttons(running=False)

    @show_errors
    def ended(self, key: str) -> tuple[Any, ...]:
        """Return what the index holds after a run that was stopped, or failed."""
        return *self._told(key), *_buttons(running=False)

    @show_errors
    def delete(self, key: str, names: list[str]) -> tuple[Any, Any]:
        """Delete files from the index."""
        if not names:
            raise InputError("Nothing is chosen. Choose files of the index, then press Delete.")
        gone = delete_files(self._store.library, owner_of(key), names, DELETE_WAIT_S)
        holding, left = self._told(key)
        return holding + f"<p class='note'>{len(gone):,} files deleted.</p>", left

    @show_errors
    def delete_all(self, key: str) -> tuple[Any, Any]:
        """Delete the whole index."""
        count = self._store.library.forget(owner_of(key), DELETE_WAIT_S)
        holding, left = self._told(key)
        return holding + f"<p class='note'>{count:,} files deleted.</p>", left

    @show_errors
    def search(
        self,
        key: str,
        text: str,
        image: str | None,
        weight: float,
        top_k: int,
        model: str,
        video_model: str,
    ) -> Iterator[tuple[Any, ...]]:
        """Find what fits the words, the picture, or both."""
        like = self._uploads.path(image, "The picture") if image else None
        query = Query(text=text or "", image=like, text_weight=weight, top_k=top_k)
        models: dict[FileKind, str] = {"picture": model, "video": video_model}
        for found in search(self._store, key, query, models):
            yield (gr.skip(),) * _NUM_OUTPUTS if found is None else self._shown(found, models)

    @show_errors
    def open(self, found: list[tuple[str, float, bool]], event: gr.SelectData) -> tuple[Any, Any]:
        """Show a result: a picture, or a video at its moment."""
        path, start_s, is_video = chosen_of(found, int(event.index))
        if self._there(path) is None:
            raise InputError(
                "The file itself is no longer here, only its small copy. Add it again to open it: "
                "it is not looked at anew.",
                title="Deleted meanwhile",
            )
        return _opened(path, start_s, is_video)

    def _told(self, key: str) -> tuple[Any, Any]:
        owner, library = owner_of(key), self._store.library
        line = holding_line(library.holding(owner), self._store.settings.index_hours)
        return line, gr.update(choices=library.names(owner)[:NAMES_SHOWN], value=[])

    def _there(self, path: str) -> Path | None:
        """Return where an indexed file lies, None where its upload has been deleted."""
        try:
            return self._uploads.path(path, "The file")
        except PipelineError:
            return None

    def _shown(self, found: Search, models: dict[FileKind, str]) -> tuple[Any, ...]:
        """Return the values of the outputs of a search."""
        demo = badge(self._store, self._store.resolve(models["picture"], "image-text"))
        notices = fmt.shown_if_any(fmt.notices(found.notes, demo))
        if not found.found:
            nothing = "<p class='empty'>Nothing stands out from the rest of your index.</p>"
            hidden = gr.update(visible=False)
            return notices, hidden, hidden, hidden, nothing, hidden, []
        captions = [caption(rank, one) for rank, one in enumerate(found.found, start=1)]
        pictures = list(zip(self._smalls(found.found), captions, strict=True))
        opened = [(one.file.path, one.start_s, one.file.kind == "video") for one in found.found]
        first = opened[0] if self._there(opened[0][0]) else ("", 0.0, False)
        return (
            notices,
            *_opened(*first),
            gr.update(value=pictures, visible=True, selected_index=None),
            found_table(found),
            gr.update(
                value=save_result(self._store.settings, "found.csv", found_csv(found)), visible=True
            ),
            opened,
        )

    def _smalls(self, found: Sequence[Found]) -> list[Image.Image]:
        """Return a small picture of each result: of a video at its moment while it is here."""
        times: dict[str, list[float]] = {}
        for one in found:
            if one.file.kind == "video":
                times.setdefault(one.file.path, []).append((one.start_s + one.end_s) / 2)
        frames = {
            path: iter(film_thumbnails(there, moments))
            for path, moments in times.items()
            if (there := self._there(path)) is not None
        }
        return [
            _opened_small(next(frames.get(one.file.path, iter(())), b"") or one.file.thumbnail)
            for one in found
        ]


def _opened_small(jpeg: bytes) -> Image.Image:
    """Return a small picture, a grey one where there is none."""
    if not jpeg:
        return Image.new("RGB", (SIDE_PX, SIDE_PX * 3 // 4), "#808080")
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def _opened(path: str, start_s: float, is_video: bool) -> tuple[Any, Any]:
    """Return the picture and the player with a result in one of them."""
    hidden = gr.update(value=None, visible=False)
    if not path:
        return hidden, hidden
    if is_video:
        return hidden, gr.update(value=path, visible=True, playback_position=start_s)
    return gr.update(value=path, visible=True), hidden


def _buttons(*, running: bool) -> tuple[Any, Any, Any]:
    """Return Add, the examples, and Stop."""
    idle = gr.update(visible=not running)
    return idle, idle, gr.update(visible=running)
