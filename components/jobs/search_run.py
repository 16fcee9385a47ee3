"""Indexing and search, for the Search tab and its endpoints."""

from collections.abc import Iterator, Sequence
from typing import Any

from components.server.uploads import Uploads
from components.widgets.model_lease import lease
from pipelines.core.errors import InputError
from pipelines.core.results import FileKind
from pipelines.search.index_run import IndexRequest
from pipelines.search.indexes import Indexes, owner_of
from pipelines.search.kinds import resolve_kind
from pipelines.search.query import Query, kinds_to_search, merged, search_kind
from pipelines.search.results import SearchResult
from pipelines.serving.store import PipelineStore


def make_order(
    store: PipelineStore,
    uploads: Uploads,
    files: Sequence[Any] | None,
    key: str,
    model: str,
    video_model: str,
) -> IndexRequest:
    """Return the request to index uploaded files, as Gradio hands them over.

    `key` is that of the index; those of the models are "" for the default.

    Raises:
        InputError: no files, not uploaded ones, a key that could be guessed, or an unknown model.
    """
    owner = owner_of(key)
    named = uploads.images(files, "files")
    if not named:
        raise InputError(
            "No files were given. Choose some pictures or videos to search in.", title="No file"
        )
    models: dict[FileKind, str] = {"picture": model, "video": video_model}
    kinds = {kind: resolve_kind(store, kind, key) for kind, key in models.items()}
    return IndexRequest(files=named, owner=owner, kinds=kinds)


def search(
    store: PipelineStore,
    indexes: Indexes,
    key: str,
    query: Query,
    models: dict[FileKind, str],
) -> Iterator[SearchResult | None]:
    """Search an owner's files; yields None a few times a second, and the answer finally.

    Raises:
        InputError: there is no index under the key, or it was made with other models.
        PipelineError: the model is not available, or the image of the query is unreadable.
    """
    owner, found = owner_of(key), []
    texts = [query.text.strip()] if query.text else []
    for kind in kinds_to_search(store, indexes, owner, models):
        with lease(store, kind.spec, kind.task) as held:
            yield from held.wait(None, lambda model: model.prepare(texts))
            found.append(search_kind(held.pipeline, indexes, owner, kind, query))
    yield merged(found, query)
