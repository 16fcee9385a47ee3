"""The public endpoints: typed functions, one each, that lease, call and format.

Names, parameters and result fields are public: a change is a breaking change in the changelog,
and `tests/components/test_contract.py` pins them.
"""

from typing import Any

import gradio as gr

from components import format as fmt
from components.common import BATCHED_QUEUE, lease
from components.errors import show_errors
from components.files import Uploads
from pipelines.catalogue import MODELS
from pipelines.labels import split_labels
from pipelines.store import PipelineStore


def build(store: PipelineStore) -> None:
    """Publish the endpoints."""
    uploads = Uploads(store.settings)

    def classify_image(
        image: gr.FileData, labels: str, templates: str = "", model: str = ""
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Classify an image with labels of your own (zero-shot).

        Args:
            image: an image file.
            labels: one per line, or comma-separated.
            templates: "ensemble", "photo", one template that holds {}, or "" for none.
            model: key of an image-text model (see /list_models); "" for the default.

        Returns:
            label: the best label, and confidences of all, best first.
            scores: for each label its probability, cosine and verdict ("match", "unsure" or
                "no match"; other labels do not change it), best first.
        """
        path = uploads.path(image, "image")
        names, repeated = split_labels(labels)
        with lease(store, model, "image-text") as clip:
            result = clip.classify(path, names, templates=templates)
        return fmt.as_label(result, repeated), fmt.as_scores(result)

    def list_models() -> list[dict[str, Any]]:
        """List every model: key, family, repository, licence, memory, whether it is on disk."""
        return [fmt.as_model(spec, store.sources.locate(spec) is not None) for spec in MODELS]

    for function in (classify_image, list_models):
        gr.api(show_errors(function), api_name=function.__name__, **BATCHED_QUEUE)
