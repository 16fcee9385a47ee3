"""The public endpoints that compare images and texts; see `components.api.publish`."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.jobs.label_choice import choose, classify
from components.render import scores as fmt
from components.server.services import RequestHandlers
from components.server.uploads import one_query
from components.widgets.model_lease import lease
from pipelines.core.errors import InputError
from pipelines.core.spec import Task
from pipelines.core.text import every_line, split_lines

TASK: Task = "image-text"


class ImageTextEndpoints(RequestHandlers):
    """Endpoints on images and texts."""

    def classify_image(
        self,
        image: gr.FileData,
        labels: str,
        templates: str = "",
        model: str = "",
        probe: gr.FileData | None = None,
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Classify an image with your own labels (zero-shot) or with your own probe.

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
        path = self._uploads.path(image, "image")
        asked = choose(self._uploads, labels, probe)
        wording = "" if templates is None else templates
        spec = self._store.resolve(model or asked.model, TASK)
        result = yield from classify(self._store, spec, path, asked, wording, ({}, []))
        yield fmt.as_label(result, asked.repeated), fmt.as_scores(result)

    def rank_similarity(
        self,
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
            "image"), cosine, verdict, note, index (position among the candidates of its kind, from
            0).
        """
        query = one_query(query_text, self._uploads.image(query_image, "query_image"))
        images = self._uploads.images(candidate_images, "candidate_images")
        blank = candidate_texts is None or not str(candidate_texts).strip()
        split = split_lines(candidate_texts, "candidate_texts") if not blank else ([], [])
        with lease(self._store, model, TASK) as held:
            yield from held.wait([], lambda clip: clip.prepare(split[0], images))
            yield fmt.as_ranking(held.pipeline.rank(query, split[0], images), split[1])

    def embed_texts(self, texts: str, model: str = "") -> Iterator[dict[str, Any]]:
        """Return unit vectors of texts, for your own search or clustering.

        Args:
            texts: one per line, ended by a line feed; each line gets one vector, in order.
            model: key of an image-text model; "" for the default.

        Returns:
            model, dim, and embeddings: one list of dim numbers for each line, in order; null for
            a blank line, which errors then names.
        """
        lines = every_line(texts, "texts")
        with lease(self._store, model, TASK) as held:
            yield from held.wait({}, lambda clip: clip.prepare([line for line in lines if line]))
            yield fmt.as_embeddings(held.pipeline.embed_texts(lines))

    def embed_images(self, images: list[gr.FileData], model: str = "") -> Iterator[dict[str, Any]]:
        """Return unit vectors of images, for your own search or clustering.

        Args:
            images: image files.
            model: key of an image-text model; "" for the default.

        Returns:
            model, dim, and embeddings: one list of dim numbers for each image, in order; null
            for a file that cannot be read, which errors then explains.
        """
        files = self._uploads.images(images, "images")
        if not files:
            raise InputError("images is empty. Send at least one image file.", title="No file")
        with lease(self._store, model, TASK) as held:
            yield from held.wait({}, lambda clip: clip.prepare((), files))
            yield fmt.as_embeddings(held.pipeline.embed_images(files))
