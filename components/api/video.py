"""The public endpoints that compare videos with texts; see `components.api.publish`."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from components.jobs.video_text import find_moments, match_texts
from components.render import video as fmt
from components.render.video_chat import answer_notes
from components.server.services import RequestHandlers
from components.widgets.model_lease import lease
from pipelines.core.options import GenerationOptions, check_fit
from pipelines.core.spec import Task
from pipelines.core.text import every_line, extend_history, split_lines
from pipelines.models.viclip.windows import SearchOptions
from pipelines.models.video_chat import Part


class VideoEndpoints(RequestHandlers):
    """Endpoints on videos and texts."""

    def match_video(
        self,
        video: gr.FileData,
        texts: str,
        model: str = "",
        start_s: float = 0.0,
        end_s: float = 0.0,
        fit: str = "",
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Score texts for a video, or for a part of it.

        Args:
            video: a video file.
            texts: one per line.
            model: key of a video-text model (see /list_models); "" for the default.
            start_s: start of the part, in seconds.
            end_s: its end; 0 for the end of the video.
            fit: how frames become the square that the model reads: "squash" gives up their
                proportions, as models are trained, "letterbox" adds bars, "centre-crop" cuts off
                what is outside the middle square; "" for the model's own.

        Returns:
            label: the best text, confidences of all, and the times of the frames that were read.
            scores: for each text its probability, cosine and verdict ("match", "unsure" or
                "no match"; other texts do not change it), best first.
        """
        path = self._uploads.path(video, "video")
        lines, repeated = split_lines(texts, "texts")
        check_fit(fit)
        part: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "fit": fit}
        match = yield from match_texts(self._store, model, path, lines, ({}, []), **part)
        yield fmt.as_label(match, repeated), fmt.as_text_scores(match)

    def find_moments(
        self,
        video: gr.FileData,
        query: str,
        model: str = "",
        window_s: float = 4.0,
        stride_s: float = 1.0,
        top_k: int = 5,
        fit: str = "",
    ) -> Iterator[list[dict[str, Any]]]:
        """Find where in a video a text happens.

        Args:
            video: a video file, of any length.
            query: what should happen.
            model: key of a video-text model; "" for the default.
            window_s: length of the parts that are compared with the query, in seconds.
            stride_s: from the start of one part to that of the next, in seconds.
            top_k: most moments.
            fit: how frames become a square; see /match_video.

        Returns:
            Moments best first, none overlapping another: start_s, end_s, score (0 to 1, against
            neutral texts), cosine, verdict, note.
        """
        path = self._uploads.path(video, "video")
        options = SearchOptions(window_s, stride_s, top_k, fit)
        text = " ".join(filter(None, every_line(query, "query")))
        moments = yield from find_moments(self._store, model, [path], text, options, [])
        yield fmt.as_moments(moments)


CHAT_TASK: Task = "video-chat"


class VideoChatEndpoints(RequestHandlers):
    """Endpoints on conversations about videos."""

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
                the end its last message has "notes", sentences on what was ignored, and why.
        """
        options = GenerationOptions(
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
        )
        part = Part(max_frames=max_frames, start_s=start_s, end_s=end_s)
        path = self._uploads.path(video, "video")
        with lease(self._store, model, CHAT_TASK) as held:
            yield from held.wait(("", []))
            chat = held.pipeline
            text = ""
            for delta in chat.ask(path, question, history, options, part, compress=bool(compress)):
                text += delta.text
                notes = answer_notes(delta.result) if delta.result is not None else None
                yield text, extend_history(history, question, text, notes)
