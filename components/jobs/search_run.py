"""Indexing and search, for the Search tab and its endpoints."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from components.server.uploads import Uploads
from components.widgets.model_lease import lease
from pipelines.core.errors import InputError
from pipelines.core.results import FileKind
from pipelines.search.index_run import IndexRequest
from pipelines.search.indexes import Indexes, owner_of
from pipelines.search.kinds import side_of
from pipelines.search.query import Query, look_in, merged, sides_to_search
from pipelines.search.results import SearchResult
from pipelines.serving.store import PipelineStore


def new_key() -> str:
    """Return a key for a new index."""
    return secrets.token_urlsafe(24)


def make_order(
    store: PipelineStore,
    uploads: Uploads,
    files: Sequence[Any] | None,
    key: str,
    model: str,
    video_model: str,
) -> IndexRequest:
    """Return the request to index uploaded files.

    Args:
        store: knows the models.
        uploads: guards the files.
        files: as Gradio hands them over.
        key: of the index.
        model: key of the model for pictures; "" for the default.
        video_model: key of the model for videos; "" for the default.

    Raises:
        InputError: no files, not uploaded ones, a key that could be guessed, or an unknown model.
    """
    owner = owner_of(key)
    named = uploads.images(files, "files")
    if not named:
        raise InputError(
            "No files were given. Choose some pictures or videos to search in.", title="No file"
        )
    sides = {
        "picture": side_of(store, "picture", model),
        "video": side_of(store, "video", video_model),
    }
    return IndexRequest(files=named, owner=owner, sides=sides)  # type: ignore[arg-type]


def search(
    store: PipelineStore,
    indexes: Indexes,
    key: str,
    query: Query,
    models: dict[FileKind, str],
) -> Iterator[SearchResult | None]:
    """Search an owner's files; yields None a few times a second, and the answer at last.

    Raises:
        InputError: there is no index under the key, or it was made with other models.
        PipelineError: there is no model to be had, or the image of the query cannot be read.
    """
    owner, found = owner_of(key), []
    texts = [query.text.strip()] if query.text else []
    for side in sides_to_search(store, indexes, owner, models):
        with lease(store, side.spec, side.task) as held:
            yield from held.wait(None, lambda model: model.prepare(texts))
            found.append(look_in(held.pipeline, indexes, owner, side, query))
    yield merged(found, query)
