"""The public endpoints that measure a model on labelled pictures; see `components.api.publish`."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.render import evaluation as fmt
from components.server.services import RequestHandlers
from components.widgets.layout import save_result
from pipelines.evaluation.job import TASK, Evaluation, EvaluationRequest, follow
from pipelines.evaluation.train_probe import ProbeOptions


class EvaluateEndpoints(RequestHandlers):
    """Endpoints on labelled images."""

    def evaluate_images(
        self, archive: gr.FileData, templates: str = "", model: str = ""
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Measure how well a model recognises your own classes (zero-shot).

        Args:
            archive: a zip with one folder of pictures for each class, named after it.
            templates: "ensemble", "photo", one template that holds {}, or "" for none.
            model: key of an image-text model (see /list_models); "" for the default.

        Returns:
            summary: accuracy (top1, top5 above five classes) with its Wilson interval at 95 %,
                that of each class, the confusion matrix, and the files left out with the reason.
            predictions: for each image its label, the predicted class and its probability.
        """
        order = EvaluationRequest(
            self._uploads.path(archive, "archive"),
            self._store.resolve(model, TASK),
            templates or "",
        )
        for step in follow(self._store, order):
            if isinstance(step, Evaluation):
                yield fmt.as_summary(step), fmt.as_predictions(step)
            else:
                yield {}, []

    def train_probe(
        self,
        archive: gr.FileData,
        templates: str = "",
        model: str = "",
        held_out: float = 0.25,
        seed: int = 0,
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], gr.FileData | None]]:
        """Train a linear probe on your own classes, and measure it.

        Args:
            archive: a zip with one folder of pictures for each class, named after it; at least
                four pictures of each.
            templates: wording of the names for the zero-shot accuracy, as in /evaluate_images.
            model: key of an image-text model (see /list_models); "" for the default.
            held_out: share of each class that the probe never sees and is measured on, 0.1 to 0.5.
            seed: of the split and of the cross-validation.

        Returns:
            summary: zero-shot and probe accuracy on the same held-out pictures, each as in
                /evaluate_images.
            predictions: for each held-out image its label, the prediction of the probe with its
                probability, and the zero-shot prediction.
            file: the probe (.safetensors), for /classify_image.
        """
        options = ProbeOptions(held_out=held_out, seed=seed)
        spec = self._store.resolve(model, TASK)
        file = self._uploads.path(archive, "archive")
        order = EvaluationRequest(file, spec, templates or "", options)
        for step in follow(self._store, order):
            if isinstance(step, Evaluation) and step.probe is not None:
                name = fmt.probe_name(step.probe)
                path = save_result(self._settings, name, step.probe.to_bytes())
                probe = gr.FileData(path=path, orig_name=name)
                yield fmt.as_summary(step), fmt.as_predictions(step), probe
            else:
                yield {}, [], None
