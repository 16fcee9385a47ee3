"""The public endpoints that index files and search them; see `components.api.publish`."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from components.jobs.search_run import make_order, search
from components.render.search import as_found, as_index, as_outcomes
from components.server.services import RequestHandlers
from pipelines.core.errors import InputError, type_name
from pipelines.core.results import FileKind
from pipelines.search.index_run import add_files
from pipelines.search.indexes import DELETE_WAIT_S, owner_of
from pipelines.search.query import Query, delete_files
from pipelines.search.results import FileOutcome


class SearchEndpoints(RequestHandlers):
    """Endpoints on indexes of files."""

    def index_files(
        self, files: list[gr.FileData], index_key: str = "", model: str = "", video_model: str = ""
    ) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
        """Add images and videos to your own index, to search in them.

        Args:
            files: image and video files; one that is there already is not encoded again.
            index_key: the key that an earlier call gave back; "" for a new index.
            model: key of an image-text model for pictures (see /list_models); "" for the default.
            video_model: key of a video-text model for videos; "" for the default.

        Returns:
            rows: file, kind ("picture" or "video"), outcome ("added", "known", "renamed", "same"
                or "error"), error and notes for each file in order, so far; they stream.
            index: index_key, which only you know and which finds the index again; the pictures,
                videos and vectors that it holds; kept_h, hours without use after which it is
                deleted, 0 for never.
        """
        key = index_key or secrets.token_urlsafe(24)
        order = make_order(self._store, self._uploads, files, key, model, video_model)
        outcomes: dict[int, FileOutcome] = {}
        rows: list[dict[str, Any]] = []
        with closing(add_files(self._store, self._indexes, order)) as run:
            for progress in run:
                outcomes.update(progress.new)
                rows = as_outcomes([outcomes[index] for index in sorted(outcomes)])
                yield rows, {"index_key": key}
        yield rows, self._held(key, order.owner)

    def _held(self, key: str, owner: str) -> dict[str, Any]:
        return as_index(key, self._indexes.summary(owner), self._settings.index_hours)

    def search_files(
        self,
        index_key: str,
        query_text: str = "",
        query_image: gr.FileData | None = None,
        text_weight: float = 0.5,
        top_k: int = 20,
        model: str = "",
        video_model: str = "",
    ) -> Iterator[list[dict[str, Any]]]:
        """Find the pictures and the moments of videos in your index that fit a text or an image.

        Args:
            index_key: the key that /index_files gave back.
            query_text: what should be seen or happen.
            query_image: an image like which it should look; with a text, both count.
            text_weight: share of the text where both are given, 0 to 1.
            top_k: most results.
            model: key of the image-text model of the index; "" for the one it was made with.
            video_model: key of its video-text model; "" likewise.

        Returns:
            Rows best first: rank, file, kind, start_s and end_s (where in a video), cosine,
            strength (1 for the best of its kind, 0 for what is as good as the rest of the index),
            verdict (of a text, or of an image with a picture, else ""), alike (names of
            near-duplicates that it stands for), note.
        """
        image = self._uploads.image(query_image, "query_image")
        query = Query(
            text="" if query_text is None else query_text,
            image=image.path if image else None,
            text_weight=text_weight,
            top_k=top_k,
        )
        models: dict[FileKind, str] = {"picture": model, "video": video_model}
        for found in search(self._store, self._indexes, index_key, query, models):
            yield [] if found is None else as_found(found)

    def forget_files(
        self, index_key: str, files: str = "", everything: bool = False
    ) -> dict[str, Any]:
        """Delete files from your index, or all of it.

        Args:
            index_key: the key that /index_files gave back.
            files: names, one per line; all files of such a name are deleted. Blanks around a name
                are left out where no file is called so with them.
            everything: delete the whole index.

        Returns:
            deleted: the names that were found; and index_key, pictures, videos, vectors and kept_h
            of what is left.
        """
        owner, library = owner_of(index_key), self._indexes
        if not isinstance(files, str):
            raise InputError("files must be text but got {given}.", given=type_name(files))
        names = _named(files, set(library.names(owner)))
        if not names and everything is not True:
            raise InputError(
                "Nothing was named. Give names of files, one per line, or everything=True."
            )
        if everything is True:
            deleted = library.names(owner)
            library.forget(owner, DELETE_WAIT_S)
        else:
            deleted = delete_files(library, owner, names, DELETE_WAIT_S)
        return {"deleted": deleted, **self._held(index_key, owner)}


def _named(files: str, known: set[str]) -> list[str]:
    """Return the names in a text, one per line; blanks around one count in known names only."""
    lines = [line.removesuffix("\r") for line in files.split("\n")]
    names = [line if line in known else line.strip() for line in lines]
    return [name for name in names if name]
