"""A conversation about a video, short or long."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.render import video_chat
from components.render.video_chat import as_markdown, from_markdown
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.widgets import chat
from components.widgets.chat import (
    Message,
    Panel,
    Subject,
    Wording,
    as_text,
    back_to_question,
    said,
)
from components.widgets.examples import example_strip, video_chat_examples, wire_example_strip
from components.widgets.generation import GenerationControls
from components.widgets.layout import TabHandlers, hidden_html, lay_out_tab, offer, show, time_range
from components.widgets.model_lease import lease
from components.widgets.model_picker import ModelPicker, notices_of, wire_model_picker
from components.widgets.player import Player
from components.widgets.queues import AHEAD_QUEUE, PAGE_EVENT
from pipelines.core.errors import MediaError
from pipelines.core.spec import Task
from pipelines.media.video.frames import Pixels
from pipelines.models.video_chat import AnswerDelta, Part, SeenFrames, decode_previews
from pipelines.serving.video_prefetch import prefetch_video

TASK: Task = "video-chat"

DOWNLOAD_NOTE = "The model is downloaded with the first question; then the video is looked at."

#: Largest number of frames on the slider; scripts may ask for more.
MOST_FRAMES = 512

EMPTY = (
    "Choose a video and ask about it: what happens, what comes first, what changes, when. "
    "Times in an answer can be clicked."
)

HOW_IT_LOOKS = (
    "The model looks at frames spread evenly over the video, or over the part you choose; those "
    "below the player. Each costs 16 tokens of what it can read at once. What it has seen of a "
    "video is kept for a while, so a further question costs its own words only."
)


class Controls:
    """Input components, and what the page shows of the video."""

    def __init__(self) -> None:
        self.video = Player(label="Video", height=320, sources=["upload"])
        self.film = hidden_html()  # the frames that the model saw
        self.strip = example_strip(lambda: gr.Video(render=False), *video_chat_examples())
        self.plan = hidden_html()  # what a question would take, and how far the video is prepared
        with gr.Accordion("How closely, and which part", open=False):
            self.max_frames = gr.Slider(
                8,
                MOST_FRAMES,
                64,
                step=8,
                label="Most frames",
                info="More frames see more of a long video, and take longer.",
            )
            self.start, self.end = time_range()
            self.compress = gr.Checkbox(
                False,
                label="Skim",
                info="Inside the model most of the video is set aside after a first look. Long "
                "videos are answered faster; small things may be missed.",
            )
            gr.Markdown(HOW_IT_LOOKS)
        self.settings = GenerationControls(256, longest=1024, beams=False)
        self.picker = ModelPicker(TASK)
        self.shown = gr.State(None)  # the frames that `film` shows
        own = [self.max_frames, self.start, self.end, self.compress, self.picker.dropdown]
        self.inputs: list[Any] = [*own, *self.settings.inputs]

    def part(self, values: dict[Any, Any]) -> Part:
        """Return the part of the video that the model sees, of a request's values by component.

        Raises:
            InputError: a value is out of its range.
        """
        return Part(
            max_frames=values[self.max_frames],
            start_s=values[self.start] or 0.0,
            end_s=values[self.end] or 0.0,
        )


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out and wire the tab."""
    lead = "What happens in this video? Ask in as many turns as you like."
    wording = Wording(as_markdown, from_markdown, markdown=True)
    _, controls, panel = lay_out_tab(
        "Video chat", lead, Controls, lambda: Panel(EMPTY, "What happens in the video?", wording)
    )
    wire_model_picker(services.store, TASK, controls.picker, page)
    handlers = Handlers(services, controls, panel)
    _wire_chat(handlers, controls, panel)
    _wire_prepare(handlers, controls)


#: Values of the outputs of an answer that change nothing.
_NOTHING = (gr.skip(),) * 6


class Handlers(TabHandlers[Controls]):
    """Handlers of the events."""

    def __init__(self, services: Services, controls: Controls, panel: Panel) -> None:
        super().__init__(services, controls)
        self._panel = panel

    @show_errors
    def answer(
        self, values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `Panel.outputs`, of `film` and of `shown`, with the answer so far."""
        controls, chat_value = self._controls, values[self._panel.chat]
        messages = self._panel.messages(chat_value)
        before, question = back_to_question(messages, len(messages) - 1)
        options, part = controls.settings.options(values), controls.part(values)
        file = self._uploads.path(values[controls.video], "The video")
        spec = self._store.resolve(values[controls.picker.dropdown], TASK)
        reply = _Reply(self._panel.asking(chat_value, len(before), question))
        skim, shown = bool(values[controls.compress]), values[controls.shown]
        with lease(self._store, spec, TASK) as held:
            yield from held.wait(_NOTHING)
            for delta in held.pipeline.ask(file, question, before, options, part, compress=skim):
                if delta.step is not None:
                    done, total = delta.step.done, delta.step.total
                    progress((done, total), desc=say("Looking at the video"), unit="frames")
                yield reply.take(delta, shown)
        result = delta.result
        assert result is not None  # every stream that does not raise ends with one
        yield (
            notices_of(self._store, spec, video_chat.answer_notes(result)),
            reply.chat(),
            show(fmt.context_meter(result.context)),
            offer(self._settings, "conversation.txt", as_text(result.history)),
            *reply.film,
        )
        yield from reply.late_film(file, shown, self._settings.max_video_s)

    @show_errors
    def prepare(self, values: dict[Any, Any]) -> Iterator[Any]:
        """Prepare the video; yields what a question would take, and how far it is prepared."""
        controls = self._controls
        if not values[controls.video]:
            yield gr.update(value="", visible=False)
            return
        file, part = self._uploads.path(values[controls.video], "The video"), controls.part(values)
        spec = self._store.resolve(values[controls.picker.dropdown], TASK)
        if spec.remote is not None:
            yield _line("This model runs on a server: the video is sent there with your question.")
            return
        if self._store.sources.locate(spec) is None:
            yield _line(DOWNLOAD_NOTE)
            return
        yield _line("Looking at the video …")
        skim = bool(values[controls.compress])
        for ahead in prefetch_video(self._store, spec, file, part, compress=skim):
            yield gr.skip() if ahead is None else show(video_chat.plan_line(ahead))


def _line(text: str) -> dict[str, Any]:
    return show(video_chat.message_line(text))


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
            frames = dict(zip(self._seen.times_s, delta.pictures, strict=False))
            self.film = _film(self._seen, frames)
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
            frames = yield from decode_previews(
                video, times, max_seconds=max_seconds, sign=_NOTHING
            )
            yield *_NOTHING[:4], *_film(self._seen, frames)

    def chat(self) -> list[Message]:
        """Return the conversation as the page shows it, the times of this answer as links."""
        if self._seen is None:
            return [*self._asked, said(as_markdown(self._text))]
        seen = self._seen
        text = as_markdown(self._text, seen.video_end_s, seen.counted_from_s)
        return [*self._asked, said(text)]


def _film(seen: SeenFrames, frames: Mapping[float, Pixels]) -> tuple[Any, ...]:
    """Return the values of the last two outputs, the strip of frames and what it shows."""
    return gr.update(value=video_chat.frame_strip(seen, frames), visible=True), seen


def _wire_chat(handlers: Handlers, controls: Controls, panel: Panel) -> None:
    subject = Subject(
        controls.video,
        missing="The video is missing. Upload or choose one.",
        empty="The question is empty. Ask something about the video.",
    )
    chat.wire(
        panel,
        subject,
        handlers.answer,
        [*controls.inputs, controls.shown],
        also=[controls.film, controls.shown],
        emptied=[gr.update(value="", visible=False), None],
    )
    # an example fills in video and question; the visitor presses Ask
    filled_in = [controls.video, panel.question]
    wire_example_strip(controls.strip, filled_in, controls.picker.dropdown)


def _wire_prepare(handlers: Handlers, controls: Controls) -> None:
    """Prepare the video whenever it, or the part that the model sees, changes."""
    changes = [
        controls.video.change,
        controls.max_frames.release,
        controls.start.change,
        controls.end.change,
        controls.compress.input,
        controls.picker.dropdown.input,
    ]
    count = gr.State(0)
    ahead = count.change(
        handlers.prepare,
        {*controls.inputs, controls.video},
        controls.plan,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="multiple",
        **AHEAD_QUEUE,
    )
    # a step of its own, so that what it cancels is never the run that it begins
    gr.on(changes, lambda number: number + 1, count, count, cancels=[ahead], **PAGE_EVENT)
