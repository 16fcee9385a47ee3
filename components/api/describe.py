"""The public endpoints that put an image into words; see `components.api.publish`."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from components.server.services import RequestHandlers
from components.widgets.model_lease import lease
from pipelines.core.options import GenerationOptions
from pipelines.core.spec import Task
from pipelines.core.text import extend_history

TASK: Task = "caption"


class DescribeEndpoints(RequestHandlers):
    """Endpoints on captions and answers."""

    def caption_image(
        self,
        image: gr.FileData,
        prompt: str = "",
        model: str = "",
        max_new_tokens: int = 40,
        num_beams: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Describe an image in a sentence.

        Args:
            image: an image file.
            prompt: words that the caption goes on from; they are not repeated in it.
            model: key of a caption model (see /list_models); "" for the default.
            max_new_tokens: most tokens of the text.
            num_beams: 1, or the number of texts that a beam search follows.
            temperature: 0 for the likeliest text, always the same; higher is more varied.
            top_p: above temperature 0, the share of probability that words are drawn from.
            seed: of the random draws.

        Returns:
            The caption so far; it streams.
        """
        options = GenerationOptions(max_new_tokens, num_beams, temperature, top_p, seed)
        path = self._uploads.path(image, "image")
        words = "" if prompt is None else prompt
        yield from self._so_far(model, lambda it: it.stream_caption(path, words, options))

    def answer_image(
        self,
        image: gr.FileData,
        question: str,
        model: str = "",
        max_new_tokens: int = 40,
        num_beams: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Answer a question about an image.

        Args:
            image: an image file.
            question: the question, in plain words.
            model: key of a caption model; "" for the default.
            max_new_tokens: most tokens of the text.
            num_beams: 1, or the number of texts that a beam search follows.
            temperature: 0 for the likeliest text, always the same; higher is more varied.
            top_p: above temperature 0, the share of probability that words are drawn from.
            seed: of the random draws.

        Returns:
            The answer so far; it streams.
        """
        options = GenerationOptions(max_new_tokens, num_beams, temperature, top_p, seed)
        path = self._uploads.path(image, "image")
        yield from self._so_far(model, lambda it: it.stream_chat(path, question, None, options))

    def chat_image(
        self,
        image: gr.FileData,
        message: str,
        history: list[dict[str, Any]] | None = None,
        model: str = "",
        max_new_tokens: int = 40,
        num_beams: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Answer the next message of a conversation about an image.

        Args:
            image: an image file.
            message: what is said now.
            history: the history that the last answer returned; empty at the beginning.
            model: key of a caption model; "" for the default.
            max_new_tokens: most tokens of the text.
            num_beams: 1, or the number of texts that a beam search follows.
            temperature: 0 for the likeliest text, always the same; higher is more varied.
            top_p: above temperature 0, the share of probability that words are drawn from.
            seed: of the random draws.

        Returns:
            answer: the answer so far; it streams.
            history: the messages so far with this one and its answer, to send with the next. In
                the end its last message has "notes", a list of sentences on what of the request
                was ignored and why the answer ends; they need not be sent back.
        """
        options = GenerationOptions(max_new_tokens, num_beams, temperature, top_p, seed)
        path = self._uploads.path(image, "image")
        with lease(self._store, model, TASK) as held:
            yield from held.wait(("", []))
            text = ""
            for delta in held.pipeline.stream_chat(path, message, history, options):
                text += delta.text
                notes = delta.result.notes if delta.result is not None else None
                yield text, extend_history(history, message, text, notes)

    def _so_far(self, model: str, stream: Callable[[Any], Iterator[Any]]) -> Iterator[str]:
        """Yield the text so far after each piece, empty ones too.

        An empty piece is a heartbeat of a search: there Gradio ends the request of a client
        that has left.
        """
        with lease(self._store, model, TASK) as held:
            yield from held.wait("")
            text = ""
            for delta in stream(held.pipeline):
                text += delta.text
                yield text
