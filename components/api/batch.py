"""The public endpoint that captions many images; see `components.api.publish`."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.jobs.batch_order import make_order
from components.render.batch import as_rows
from components.server.services import RequestHandlers
from pipelines.batch.job import BatchJob
from pipelines.core.options import GenerationOptions


class BatchEndpoints(RequestHandlers):
    """Endpoints on many images."""

    def caption_images(
        self,
        files: list[gr.FileData],
        prompt: str = "",
        model: str = "",
        max_new_tokens: int = 40,
        num_beams: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        resume_key: str = "",
    ) -> Iterator[tuple[list[dict[str, Any]], gr.FileData | None]]:
        """Describe many images; an unreadable one does not stop the others.

        Args:
            files: image files, or one zip of them.
            prompt: words that every caption goes on from; they are not repeated in it.
            model: key of a caption model (see /list_models); "" for the default.
            max_new_tokens: most tokens of a text.
            num_beams: 1, or the number of texts that a beam search follows.
            temperature: 0 for the likeliest text, always the same; higher is more varied.
            top_p: above temperature 0, the share of probability that words are drawn from.
            seed: of the random draws.
            resume_key: a long random text of your own: another run with it within an hour takes
                up what this one has done, and only what is missing is done; "" keeps nothing.

        Returns:
            rows: file, caption, error and notes for each image in order, so far; they stream. A
                file that cannot be read has its reason as the error. The notes say what of the
                prompt was ignored and why a caption ends.
            results: at the end, a zip of all as JSON lines, CSV, metadata.jsonl and text files.
        """
        options = GenerationOptions(max_new_tokens, num_beams, temperature, top_p, seed)
        order = make_order(
            self._store, self._uploads, files, model, prompt, options, owner=resume_key
        )
        job = BatchJob(self._store, order)
        rows: list[dict[str, Any]] = []
        for progress in job.follow():
            rows += as_rows(progress.new)
            made = progress.files[0] if progress.files else None
            yield list(rows), gr.FileData(path=str(made), orig_name=made.name) if made else None
