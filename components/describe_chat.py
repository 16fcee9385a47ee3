"""A conversation about an image: streamed, stopped, asked again, edited, undone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components import format as fmt
from components.common import DEVICE_QUEUE, PAGE_EVENT, badge, lease, save_result
from components.conversation import as_text, back_to_question, plain_messages
from components.errors import show_errors
from components.files import Uploads
from components.generation import GenerationControls
from pipelines.catalogue import Task
from pipelines.errors import InputError
from pipelines.store import PipelineStore

TASK: Task = "caption"

EMPTY = "Choose a picture and ask about it: what is there, how many, which colour, where."


@dataclass(frozen=True)
class Parts:
    """The components of this part; `about` is the picture that the conversation is about."""

    notices: gr.HTML
    chat: gr.Chatbot
    question: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    clear: gr.Button
    meter: gr.HTML
    download: gr.DownloadButton
    about: gr.State


def build(
    store: PipelineStore, image: gr.Image, model: gr.Dropdown, settings: GenerationControls
) -> None:
    """Lay out and wire the part."""
    parts = _lay_out()
    answer = _answering(store, image, model, settings, parts)
    reply: dict[str, Any] = {
        "fn": answer,
        "inputs": {image, model, parts.chat, *settings.inputs},
        "outputs": [parts.notices, parts.chat, parts.meter, parts.download],
        "show_progress_on": [parts.chat],
        "api_visibility": "private",
        **DEVICE_QUEUE,
    }
    running = [start.success(**reply) for start in _questions(parts, image)]
    parts.stop.click(None, cancels=running, api_visibility="private")

    hidden = gr.update(visible=False)
    empty: tuple[Any, ...] = ([], hidden, gr.update(value="", visible=False), hidden, None)

    def other_picture(picture: str | None, about: str | None) -> Any:
        return gr.skip() if picture == about else empty

    shown = [parts.chat, parts.notices, parts.meter, parts.download, parts.about]
    parts.clear.click(lambda: empty, None, shown, cancels=running, **PAGE_EVENT)
    image.change(other_picture, [image, parts.about], shown, cancels=running, **PAGE_EVENT)


def _lay_out() -> Parts:
    notices = gr.HTML(visible=False, padding=False)
    chat = gr.Chatbot(
        label="Conversation",
        show_label=False,
        height=360,
        placeholder=EMPTY,
        editable="user",
        buttons=["copy", "copy_all"],
        feedback_options=None,
        render_markdown=False,
        allow_tags=False,
        layout="bubble",
    )
    meter = gr.HTML(visible=False, padding=False)
    question = gr.Textbox(
        label="Question", placeholder="What colour is the circle?", max_lines=4, autofocus=False
    )
    with gr.Row():
        ask = gr.Button("Ask", variant="primary", elem_classes="go")
        stop = gr.Button("Stop", min_width=80, scale=0)
    with gr.Row():
        clear = gr.Button("New conversation", size="sm", min_width=140)
        download = gr.DownloadButton("Download", visible=False, size="sm", min_width=140)
    return Parts(notices, chat, question, ask, stop, clear, meter, download, gr.State(None))


def _questions(parts: Parts, image: gr.Image) -> list[Any]:
    """Wire what puts a question into the conversation; returns the events to answer after."""

    def add(
        question: str, chat: Any, picture: str | None, about: str | None
    ) -> tuple[Any, str, str]:
        if not picture:
            raise InputError("The picture is missing. Upload or choose one.", title="No file")
        if not question.strip():
            raise InputError("The question is empty. Ask something about the picture.")
        before = plain_messages(chat) if picture == about else []
        return [*before, {"role": "user", "content": question}], "", picture

    def again(chat: Any, event: gr.RetryData) -> Any:
        before, question = back_to_question(plain_messages(chat), _index(event))
        return [*before, {"role": "user", "content": question}]

    def edited(chat: Any, event: gr.EditData) -> Any:
        before, _ = back_to_question(plain_messages(chat), _index(event))
        return [*before, {"role": "user", "content": str(event.value)}]

    def undone(chat: Any, event: gr.UndoData) -> tuple[Any, str]:
        return back_to_question(plain_messages(chat), _index(event))

    both = [parts.chat, parts.question]
    parts.chat.undo(show_errors(undone), parts.chat, both, **PAGE_EVENT)
    asked = gr.on(
        [parts.ask.click, parts.question.submit],
        show_errors(add),
        [parts.question, parts.chat, image, parts.about],
        [*both, parts.about],
        **PAGE_EVENT,
    )
    return [
        asked,
        parts.chat.retry(show_errors(again), parts.chat, parts.chat, **PAGE_EVENT),
        parts.chat.edit(show_errors(edited), parts.chat, parts.chat, **PAGE_EVENT),
    ]


def _index(event: Any) -> int:
    """Return the message that an event is about; in groups Gradio gives (message, part)."""
    index = event.index
    return int(index[0] if isinstance(index, (list, tuple)) else index)


def _answering(
    store: PipelineStore,
    image: gr.Image,
    model: gr.Dropdown,
    settings: GenerationControls,
    parts: Parts,
) -> Callable[..., Any]:
    uploads = Uploads(store.settings)

    @show_errors
    def answer(
        values: dict[Any, Any], progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        messages = plain_messages(values[parts.chat])
        before, question = back_to_question(messages, len(messages) - 1)
        options = settings.options(values)
        file, spec = uploads.path(values[image], "The picture"), store.resolve(values[model], TASK)
        asked = [*before, {"role": "user", "content": question}]
        with lease(store, spec.key, TASK, progress) as describer:
            text = ""
            for delta in describer.stream_chat(file, question, before, options):
                text += delta.text
                if delta.result is None:
                    yield gr.skip(), [*asked, _said(text)], gr.skip(), gr.skip()
        result = delta.result
        assert result is not None  # every stream that does not raise ends with one
        whole = [*asked, _said(text)]
        saved = save_result(store.settings, "conversation.txt", as_text(whole))
        yield (
            fmt.shown_if_any(fmt.notices(result.notes, badge(store, spec))),
            whole,
            gr.update(value=fmt.context_meter(result.context), visible=True),
            gr.update(value=saved, visible=True),
        )

    return answer


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
