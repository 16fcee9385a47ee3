"""The public endpoint that answers questions about videos; see `components.api.publish`."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from components.render.video_chat import answer_notes
from components.server.uploads import Uploads
from components.widgets.model_lease import lease
from pipelines.conversation import extend_history
from pipelines.core.options import GenerationOptions
from pipelines.models.catalogue import Task
from pipelines.serving.store import PipelineStore
from pipelines.videochat_flash.part import Part

TASK: Task = "video-chat"


class VideoChatEndpoints:
    """What is published of conversations about videos."""

    def __init__(self, store: PipelineStore) -> None:
        """Remember what lends the models, and guard what is sent."""
        self._store = store
        self._uploads = Uploads(store.settings)

    def ask_video(
        self,
        video: gr.FileData,
        question: str,
        history: list[dict[str, Any]] | None = None,
        model: str = "",
        max_frames: int = 64,
        start_s: float = 0.0,
        end_s: float = 0.0,
        compress: bool = False,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Answer the next question of a conversation about a video, or a part of it.

        Args:
            video: a video file, of any length.
            question: the question, in plain words.
            history: the history that the last answer returned; empty at the beginning.
            model: key of a video-chat model (see /list_models); "" for the default.
            max_frames: most frames that the model looks at, spread evenly; 4 to 1024.
            start_s: start of the part, in seconds.
            end_s: its end; 0 for the end of the video.
            compress: drop most of the video inside the language model: faster on long videos.
            max_new_tokens: most tokens of the answer.
            temperature: 0 for the likeliest answer, always the same; higher is more varied.
            top_p: above temperature 0, the share of probability that words are drawn from.
            seed: of the random draws.

        Returns:
            answer: the answer so far; it streams.
            history: the messages so far with this one and its answer, to send with the next; in
                the end its last message has "notes", sentences on what did not count, and why.
        """
        options = GenerationOptions(
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
        )
        part = Part(max_frames=max_frames, start_s=start_s, end_s=end_s)
        path = self._uploads.path(video, "video")
        with lease(self._store, model, TASK) as lent:
            yield from lent.wait(("", []))
            chat = lent.pipeline
            text = ""
            for delta in chat.ask(path, question, history, options, part, compress=bool(compress)):
                text += delta.text
                notes = answer_notes(delta.result) if delta.result is not None else None
                yield text, extend_history(history, question, text, notes)


def endpoints(store: PipelineStore) -> list[Callable[..., Any]]:
    """Return the functions to publish."""
    own = VideoChatEndpoints(store)
    return [own.ask_video]
