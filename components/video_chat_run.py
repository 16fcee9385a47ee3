"""What the Video chat tab does: answer, and prepare a video while its visitor types."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from components.chat_times import as_markdown
from components.conversation import Message, as_text, back_to_question
from components.render import scores as fmt
from components.render import video_chat
from components.server.blocks import show_errors
from components.server.translate import say
from components.server.uploads import Uploads
from components.widgets.chat import Panel, said
from components.widgets.common import badge, save_result
from components.widgets.generation import GenerationControls
from components.widgets.model_lease import lease
from components.widgets.player import Player
from pipelines.core.errors import MediaError
from pipelines.models.catalogue import Task
from pipelines.models.videochat_flash.results import AnswerDelta, SeenFrames
from pipelines.serving.store import PipelineStore
from pipelines.serving.video_prefetch import look_ahead
from pipelines.video_pixels import Pixels
from pipelines.videochat_flash.film import decode_film
from pipelines.videochat_flash.part import Part

TASK: Task = "video-chat"

#: Values for the outputs of an answer, and a sign of life.
_NOTHING = (gr.skip(),) * 6


@dataclass(frozen=True)
class Controls:
    """What a person sets."""

    video: Player
    max_frames: gr.Slider
    start: gr.Number
    end: gr.Number
    compress: gr.Checkbox
    model: gr.Dropdown
    settings: GenerationControls

    @property
    def inputs(self) -> list[Any]:
        """Every input but the video."""
        own = [self.max_frames, self.start, self.end, self.compress, self.model]
        return [*own, *self.settings.inputs]

    def part(self, values: dict[Any, Any]) -> Part:
        """Return what of the video is looked at, of a request's values by component.

        Raises:
            InputError: a value is out of its range.
        """
        return Part(
            max_frames=values[self.max_frames],
            start_s=values[self.start] or 0.0,
            end_s=values[self.end] or 0.0,
        )


def answering(
    store: PipelineStore, controls: Controls, panel: Panel, shown: gr.State
) -> Callable[..., Any]:
    """Return the handler that streams an answer; `shown` holds what the strip of frames shows."""
    uploads = Uploads(store.settings)

    @show_errors
    def answer(
        values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        messages = panel.messages(values[panel.chat])
        before, question = back_to_question(messages, len(messages) - 1)
        options, part = controls.settings.options(values), controls.part(values)
        file = uploads.path(values[controls.video], "The video")
        spec = store.resolve(values[controls.model], TASK)
        reply = _Reply(panel.asking(values[panel.chat], len(before), question))
        with lease(store, spec.key, TASK) as lent:
            yield from lent.wait(_NOTHING)
            chat = lent.pipeline
            skim = bool(values[controls.compress])
            for delta in chat.ask(file, question, before, options, part, compress=skim):
                if delta.step is not None:
                    done, total = delta.step.done, delta.step.total
                    progress((done, total), desc=say("Looking at the video"), unit="frames")
                yield reply.take(delta, values[shown])
        result = delta.result
        assert result is not None  # every stream that does not raise ends with one
        saved = save_result(store.settings, "conversation.txt", as_text(result.history))
        yield (
            fmt.shown_if_any(fmt.notices(video_chat.answer_notes(result), badge(store, spec))),
            reply.chat(),
            gr.update(value=fmt.context_meter(result.context), visible=True),
            gr.update(value=saved, visible=True),
            *reply.film,
        )
        yield from reply.late_film(file, values[shown], store.settings.max_video_s)

    return answer


class _Reply:
    """An answer on its way to the page.

    Attributes:
        film: values of the last two outputs, which show the strip of frames if it was made. They
            go to the page twice, at the end too: it loses what comes while it cancels something,
            and a video that was put there just before the question cancels what went before.
    """

    def __init__(self, asked: list[Message]) -> None:
        self._asked = asked
        self._text = ""
        self._seen: SeenFrames | None = None
        self.film: tuple[Any, ...] = (gr.skip(), gr.skip())
        self._has_film = False

    def take(self, delta: AnswerDelta, shown: Any) -> tuple[Any, ...]:
        """Return the values of the outputs after one more piece."""
        self._seen = delta.seen or self._seen
        if delta.pictures and self._seen is not None and shown != self._seen:
            self._has_film = True
            pictures = dict(zip(self._seen.times_s, delta.pictures, strict=False))
            self.film = _film(self._seen, pictures)
            return *_NOTHING[:4], *self.film
        if not delta.text:
            return _NOTHING
        self._text += delta.text
        return gr.skip(), self.chat(), *_NOTHING[2:]

    def late_film(self, video: Path, shown: Any, max_seconds: float) -> Iterator[tuple[Any, ...]]:
        """Yield the outputs with the frames that were looked at, where the model kept none."""
        if self._has_film or self._seen is None or shown == self._seen or not self._seen.times_s:
            return
        times = video_chat.times_shown(self._seen)
        with suppress(MediaError):  # the answer is there, and says what could not be read
            pictures = yield from decode_film(video, times, max_seconds=max_seconds, sign=_NOTHING)
            yield *_NOTHING[:4], *_film(self._seen, pictures)

    def chat(self) -> list[Message]:
        """Return the conversation as the page shows it, the times of this answer as links."""
        if self._seen is None:
            return [*self._asked, said(as_markdown(self._text))]
        seen = self._seen
        text = as_markdown(self._text, seen.video_end_s, seen.counted_from_s)
        return [*self._asked, said(text)]


def _film(seen: SeenFrames, pictures: Mapping[float, Pixels]) -> tuple[Any, ...]:
    """Return the values of the last two outputs, the strip of frames and what it shows."""
    return gr.update(value=video_chat.film_strip(seen, pictures), visible=True), seen


def looking_ahead(store: PipelineStore, controls: Controls) -> Callable[..., Any]:
    """Return the handler that prepares a video and says what a question would take."""
    uploads = Uploads(store.settings)

    @show_errors
    def prepare(values: dict[Any, Any]) -> Iterator[Any]:
        if not values[controls.video]:
            yield gr.update(value="", visible=False)
            return
        file = uploads.path(values[controls.video], "The video")
        spec, part = store.resolve(values[controls.model], TASK), controls.part(values)
        if spec.remote is not None:
            told = "This model runs on a server: the video is sent there with your question."
            yield gr.update(value=video_chat.message_line(told), visible=True)
            return
        if store.sources.locate(spec) is None:
            told = "The model is downloaded with the first question; then the video is looked at."
            yield gr.update(value=video_chat.message_line(told), visible=True)
            return
        yield gr.update(value=video_chat.message_line("Looking at the video …"), visible=True)
        for ahead in look_ahead(store, spec, file, part, compress=bool(values[controls.compress])):
            line = None if ahead is None else video_chat.plan_line(ahead)
            yield gr.skip() if line is None else gr.update(value=line, visible=True)

    return prepare
