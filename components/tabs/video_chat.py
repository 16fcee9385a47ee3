"""A conversation about a video, short or long."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from components.render import scores as fmt
from components.render import video_chat
from components.render.video_chat import as_markdown, from_markdown
from components.server.blocks import show_errors
from components.server.services import Services
from components.server.translate import say
from components.server.uploads import Uploads
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
from components.widgets.common import (
    AHEAD_QUEUE,
    PAGE_EVENT,
    ExampleStrip,
    ModelPicker,
    badge,
    example_strip,
    model_picker,
    save_result,
    wire_example_strip,
    wire_model_picker,
)
from components.widgets.examples import video_chat_examples
from components.widgets.generation import GenerationControls, generation_settings
from components.widgets.model_lease import lease
from components.widgets.player import Player
from pipelines.core.errors import MediaError
from pipelines.core.spec import Task
from pipelines.media.video.frames import Pixels
from pipelines.models.video_chat import AnswerDelta, Part, SeenFrames, decode_previews
from pipelines.serving.store import PipelineStore
from pipelines.serving.video_prefetch import prefetch_video

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
            pictures = yield from decode_previews(
                video, times, max_seconds=max_seconds, sign=_NOTHING
            )
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
    return gr.update(value=video_chat.frame_strip(seen, pictures), visible=True), seen


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
        for ahead in prefetch_video(
            store, spec, file, part, compress=bool(values[controls.compress])
        ):
            line = None if ahead is None else video_chat.plan_line(ahead)
            yield gr.skip() if line is None else gr.update(value=line, visible=True)

    return prepare


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


@dataclass(frozen=True)
class Layout:
    """The components of the tab."""

    controls: Controls
    strip: ExampleStrip
    picker: ModelPicker
    plan: gr.HTML
    film: gr.HTML
    shown: gr.State
    panel: Panel


def build(services: Services, page: gr.Blocks) -> None:
    """Lay out the tab."""
    store = services.store
    with gr.Tab("Video chat", id="video-chat"):
        gr.Markdown(
            "What happens in this video? Ask in as many turns as you like.", elem_classes="lead"
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                controls, picker, strip, plan, film = _lay_out_video()
            with gr.Column(scale=6, min_width=300):
                wording = Wording(as_markdown, from_markdown, markdown=True)
                panel = chat.lay_out(EMPTY, "What happens in the video?", wording)
    layout = Layout(controls, strip, picker, plan, film, gr.State(None), panel)
    wire_model_picker(store, TASK, layout.picker, page)
    _wire(store, layout)


def _lay_out_video() -> tuple[Controls, ModelPicker, ExampleStrip, gr.HTML, gr.HTML]:
    video = Player(label="Video", height=320, sources=["upload"])
    film = gr.HTML(visible=False, padding=False)
    strip = example_strip(lambda: gr.Video(render=False), *video_chat_examples())
    plan = gr.HTML(visible=False, padding=False)
    with gr.Accordion("How closely, and which part", open=False):
        max_frames = gr.Slider(
            8,
            MOST_FRAMES,
            64,
            step=8,
            label="Most frames",
            info="More frames see more of a long video, and take longer.",
        )
        with gr.Row():
            start = gr.Number(
                0.0, label="From (s)", info="0 for the start.", minimum=0, min_width=120
            )
            end = gr.Number(0.0, label="To (s)", info="0 for the end.", minimum=0, min_width=120)
        compress = gr.Checkbox(
            False,
            label="Skim",
            info="Inside the model most of the video is set aside after a first look. Long videos "
            "are answered faster; small things may be missed.",
        )
        gr.Markdown(HOW_IT_LOOKS)
    settings = generation_settings(256, longest=1024, beams=False)
    picker = model_picker(TASK)
    controls = Controls(video, max_frames, start, end, compress, picker.dropdown, settings)
    return controls, picker, strip, plan, film


def _wire(store: PipelineStore, layout: Layout) -> None:
    controls, panel = layout.controls, layout.panel
    subject = Subject(
        controls.video,
        missing="The video is missing. Upload or choose one.",
        empty="The question is empty. Ask something about the video.",
    )
    chat.wire(
        panel,
        subject,
        answering(store, controls, panel, layout.shown),
        [*controls.inputs, layout.shown],
        also=[layout.film, layout.shown],
        emptied=[gr.update(value="", visible=False), None],
    )
    _wire_ahead(store, layout)

    def keep_question(filled: Any) -> None:
        """An example fills in video and question; the person presses Ask."""

    wire_example_strip(
        layout.strip,
        [controls.video, panel.question],
        controls.model,
        keep_question,
    )


def _wire_ahead(store: PipelineStore, layout: Layout) -> None:
    """Prepare the video whenever it, or what of it is looked at, changes."""
    controls = layout.controls
    changes = [
        controls.video.change,
        controls.max_frames.release,
        controls.start.change,
        controls.end.change,
        controls.compress.input,
        controls.model.input,
    ]
    count = gr.State(0)
    ahead = count.change(
        looking_ahead(store, controls),
        {*controls.inputs, controls.video},
        layout.plan,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="multiple",
        **AHEAD_QUEUE,
    )
    # a step of its own, so that what it cancels is never the run that it begins
    gr.on(changes, lambda number: number + 1, count, count, cancels=[ahead], **PAGE_EVENT)
