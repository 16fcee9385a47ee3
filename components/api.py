"""The public endpoints: typed functions, one each, that lease, call and format.

Names, parameters and result fields are public: a change is a breaking change in the changelog,
and `tests/components/test_contract.py` pins them.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args

import gradio as gr

from components import (
    api_batch,
    api_describe,
    api_evaluate,
    api_search,
    api_video,
    api_video_chat,
)
from components import format as fmt
from components.common import (
    BATCH_QUEUE,
    BATCHED_QUEUE,
    DEVICE_QUEUE,
    LOOKUP_QUEUE,
    is_bundled,
    worked_off,
)
from components.descriptions import unwrapped
from components.errors import show_errors
from components.files import Uploads, one_query
from components.lending import lease
from components.probes import choose
from pipelines.errors import InputError
from pipelines.labels import split_lines
from pipelines.store import PipelineStore


def build(store: PipelineStore) -> None:
    """Publish the endpoints."""
    uploads = Uploads(store.settings)

    def classify_image(
        image: gr.FileData,
        labels: str,
        templates: str = "",
        model: str = "",
        probe: gr.FileData | None = None,
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Classify an image with labels of your own (zero-shot), or with a probe of your own.

        Args:
            image: an image file.
            labels: one per line, or comma-separated; with a probe they are not used, so "".
            templates: "ensemble", "photo", one template that holds {}, or "" for none.
            model: key of an image-text model (see /list_models); "" for the default, or, with a
                probe, for the model that it was made with.
            probe: a file that /train_probe made; the probabilities then are the probe's.

        Returns:
            label: the best label, and confidences of all, best first.
            scores: for each label its probability, cosine and verdict ("match", "unsure" or
                "no match"; other labels do not change it), best first.
        """
        path = uploads.path(image, "image")
        asked = choose(uploads, labels, probe)
        wording = "" if templates is None else templates
        with lease(store, model or asked.model, "image-text") as lent:
            yield from lent.wait(({}, []))
            clip = lent.pipeline
            for _ in worked_off(clip.prepare(asked.labels, templates=wording)):
                yield {}, []
            result = asked.classify(clip, path, wording)
        yield fmt.as_label(result, asked.repeated), fmt.as_scores(result)

    def rank_similarity(
        query_text: str = "",
        query_image: gr.FileData | None = None,
        candidate_texts: str = "",
        candidate_images: list[gr.FileData] | None = None,
        model: str = "",
    ) -> Iterator[list[dict[str, Any]]]:
        """Rank texts and images by their similarity to one text or one image.

        Args:
            query_text: the query, if it is a text.
            query_image: the query, if it is an image; exactly one of the two.
            candidate_texts: texts to compare with, one per line.
            candidate_images: images to compare with.
            model: key of an image-text model; "" for the default.

        Returns:
            Rows best first: rank, candidate (the text or the file's name), kind ("text" or
            "image"), cosine, verdict, note.
        """
        query = one_query(query_text, uploads.image(query_image, "query_image"))
        images = uploads.images(candidate_images, "candidate_images")
        blank = candidate_texts is None or not str(candidate_texts).strip()
        split = split_lines(candidate_texts, "candidate_texts") if not blank else ([], [])
        with lease(store, model, "image-text") as lent:
            yield from lent.wait([])
            clip = lent.pipeline
            for _ in worked_off(clip.prepare(split[0], images)):
                yield []
            yield fmt.as_ranking(clip.rank(query, split[0], images), split[1])

    def embed_texts(texts: str, model: str = "") -> Iterator[dict[str, Any]]:
        """Return the unit vectors of texts, for search or clustering of your own.

        Args:
            texts: one per line; each line gets one vector, in order.
            model: key of an image-text model; "" for the default.

        Returns:
            model, dim, and embeddings: one list of dim numbers for each text.
        """
        lines = split_lines(texts, "texts", distinct=False)[0]
        with lease(store, model, "image-text") as lent:
            yield from lent.wait({})
            clip = lent.pipeline
            for _ in worked_off(clip.prepare(lines)):
                yield {}
            yield fmt.as_embeddings(clip.embed_texts(lines))

    def embed_images(images: list[gr.FileData], model: str = "") -> Iterator[dict[str, Any]]:
        """Return the unit vectors of images, for search or clustering of your own.

        Args:
            images: image files.
            model: key of an image-text model; "" for the default.

        Returns:
            model, dim, and embeddings: one list of dim numbers for each image, in order; null
            for a file that cannot be read, which errors then explains.
        """
        files = uploads.images(images, "images")
        if not files:
            raise InputError("images is empty. Send at least one image file.", title="No file")
        with lease(store, model, "image-text") as lent:
            yield from lent.wait({})
            clip = lent.pipeline
            for _ in worked_off(clip.prepare((), files)):
                yield {}
            yield fmt.as_embeddings(clip.embed_images(files))

    def list_models() -> list[dict[str, Any]]:
        """List every model: key, family, repository, licence, memory, whether it is on disk."""
        specs = {spec.key: spec for spec in store.models}  # a remote model of two tasks is one
        return [fmt.as_model(one, store.sources.locate(one) is not None) for one in specs.values()]

    for function in (classify_image, rank_similarity, embed_texts, embed_images):
        _publish(function, BATCHED_QUEUE)
    for function in api_describe.endpoints(store):
        _publish(function, DEVICE_QUEUE)
    for function in (*api_batch.endpoints(store), *api_evaluate.endpoints(store)):
        _publish(function, BATCH_QUEUE)
    for videos in (api_video, api_video_chat):
        if is_bundled(store, videos.TASK):
            for function in videos.endpoints(store):
                _publish(function, DEVICE_QUEUE)
    if is_bundled(store, "video-text"):
        index_files, search_files = api_search.endpoints(store)
        _publish(index_files, BATCH_QUEUE)
        _publish(search_files, DEVICE_QUEUE)
        for function in api_search.lookups(store):
            _publish(function, LOOKUP_QUEUE)
    _publish(list_models, LOOKUP_QUEUE)


def _publish(function: Callable[..., Any], queue: dict[str, Any]) -> None:
    """Publish an endpoint; a generator's values are what it returns to a script.

    A long request first streams empty values, so that it ends when its client has gone.
    """
    endpoint = show_errors(function)
    endpoint.__doc__ = unwrapped(inspect.getdoc(function) or "")
    if inspect.isgeneratorfunction(function):
        signature = inspect.signature(function)
        (value,) = get_args(signature.return_annotation)
        shown = signature.replace(return_annotation=value)
        endpoint.__signature__ = shown  # type: ignore[attr-defined]
    gr.api(endpoint, api_name=function.__name__, **queue)
