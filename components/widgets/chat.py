"""Conversation of a tab: ask, stream, stop, retry, edit, undo."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.server.blocks import show_errors
from components.widgets.layout import HIDDEN, download_button, hidden_html
from components.widgets.queues import DEVICE_QUEUE, PAGE_EVENT
from pipelines.core.errors import InputError

#: {"role": "user" or "assistant", "content": text}, as it travels with a request.
Message = dict[str, str]


def plain_messages(value: Any) -> list[Message]:
    """Return the messages of a chat component: roles and texts, nothing else of them."""
    return [
        {"role": str(item["role"]), "content": _text_of(item.get("content"))}
        for item in value or ()
    ]


def _text_of(content: Any) -> str:
    if isinstance(content, (list, tuple)):
        return "".join(_text_of(part) for part in content)
    if isinstance(content, dict):
        return str(content.get("text") or "")
    return "" if content is None else str(content)


def back_to_question(messages: Sequence[Message], index: int) -> tuple[list[Message], str]:
    """Return (what came before, the question) for the last question at or before `index`.

    Raises:
        InputError: there is no question there.
    """
    for at in range(min(index, len(messages) - 1), -1, -1):
        if messages[at]["role"] == "user":
            return list(messages[:at]), messages[at]["content"]
    raise InputError("There is no question to go back to. Ask one.")


def as_text(messages: Sequence[Message]) -> str:
    """Return a conversation as a text file."""
    names = {"user": "Question", "assistant": "Answer"}
    return "".join(f"{names.get(m['role'], m['role'])}: {m['content']}\n\n" for m in messages)


@dataclass(frozen=True)
class Wording:
    """Conversion of the texts of a conversation to what the page shows, and back."""

    shown: Callable[[str], str] = str  # text of a message -> value of the chat component
    said: Callable[[str], str] = str  # the reverse
    markdown: bool = False  # whether the value is Markdown


PLAIN = Wording()


@dataclass(frozen=True)
class Subject:
    """Subject of a conversation."""

    media: Any  # the component that holds it; its value is a path
    missing: str  # message where it holds nothing
    empty: str  # message where there is no question


class Panel:
    """Components of a conversation.

    Attributes:
        about: the file that the conversation is about; None also where the state of a session
            was deleted while its page still shows the conversation.
        busy: whether an answer is being given.
    """

    def __init__(self, placeholder: str, example: str, wording: Wording = PLAIN) -> None:
        self.wording = wording
        self.notices = hidden_html()
        self.chat = gr.Chatbot(
            label="Conversation",
            show_label=False,
            height=360,
            placeholder=placeholder,
            editable="user",
            buttons=[] if wording.markdown else ["copy", "copy_all"],
            feedback_options=None,
            render_markdown=wording.markdown,
            latex_delimiters=[],
            allow_tags=False,
            layout="bubble",
        )
        self.meter = hidden_html()
        self.question = gr.Textbox(
            label="Question", placeholder=example, max_lines=4, autofocus=False
        )
        with gr.Row():
            self.ask = gr.Button("Ask", variant="primary", elem_classes="go")
            self.stop = gr.Button("Stop", min_width=80, scale=0)
        with gr.Row():
            self.clear = gr.Button("New conversation", size="sm", min_width=140)
            self.download = download_button("Download")
        self.about, self.busy = gr.State(None), gr.State(False)
        self.outputs: list[Any] = [self.notices, self.chat, self.meter, self.download]
        self.state: list[Any] = [self.busy, self.ask]  # the outputs that change with `busy`

    def messages(self, value: Any) -> list[Message]:
        """Return the conversation that the chat component holds."""
        said = self.wording.said
        return [{**each, "content": said(each["content"])} for each in plain_messages(value)]

    def asking(self, value: Any, number: int, question: str) -> list[Message]:
        """Return the chat component's value with `number` messages of before and a question."""
        asked = {"role": "user", "content": self.wording.shown(question)}
        return [*plain_messages(value)[:number], asked]


def wire(
    panel: Panel,
    subject: Subject,
    answer: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    also: Sequence[Any] = (),
    emptied: Sequence[Any] = (),
) -> None:
    """Wire a conversation.

    `answer` streams values for the panel's outputs and for `also`, given the values by component
    of the subject, the chat and `inputs`. `emptied` are the values of `also` without a
    conversation.
    """
    reply: dict[str, Any] = {
        "fn": answer,
        "inputs": {subject.media, panel.chat, *inputs},
        "outputs": [*panel.outputs, *also],
        "show_progress_on": [panel.chat],
        "api_visibility": "private",
        **DEVICE_QUEUE,
    }
    running = [start.success(**reply) for start in _questions(panel, subject)]
    # the next question waits for the end of a run, cancelled ones too: the page loses what is asked
    # while it cancels; `then` does not follow runs that raise
    for run in running:
        for ended in (run.then, run.failure):
            ended(lambda: _BUSY[False], None, panel.state, **PAGE_EVENT)
    panel.stop.click(None, None, None, cancels=running)

    empty: tuple[Any, ...] = (HIDDEN, [], gr.update(value="", visible=False), HIDDEN, *emptied)

    def other_subject(media: str | None, about: str | None) -> Any:
        return gr.skip() if media == about else (*empty, None)

    shown = [*panel.outputs, *also, panel.about]
    panel.clear.click(lambda: (*empty, None), None, shown, cancels=running, **PAGE_EVENT)
    subject.media.change(
        other_subject, [subject.media, panel.about], shown, cancels=running, **PAGE_EVENT
    )


#: Whether an answer is being given -> values of `Panel.state`.
_BUSY = {busy: (busy, gr.update(interactive=not busy)) for busy in (False, True)}


def said(text: str) -> Message:
    """Return an answer as a message."""
    return {"role": "assistant", "content": text}


def _questions(panel: Panel, subject: Subject) -> list[Any]:
    """Wire the events that add a question; returns those to answer after."""

    def add(
        question: str, chat: Any, media: str | None, about: str | None, busy: bool
    ) -> tuple[Any, ...]:
        if not media:
            raise InputError(subject.missing, title="No file")
        if not question.strip():
            raise InputError(subject.empty)
        settled = _settled(panel, chat, busy)
        before = answered(settled) if about in (None, media) else 0
        return panel.asking(chat, before, question), "", media, *_BUSY[True]

    def again(chat: Any, busy: bool, event: gr.RetryData) -> tuple[Any, ...]:
        before, question = back_to_question(_settled(panel, chat, busy), _index(event))
        return panel.asking(chat, len(before), question), *_BUSY[True]

    def edited(chat: Any, busy: bool, event: gr.EditData) -> tuple[Any, ...]:
        before, _ = back_to_question(_settled(panel, chat, busy), _index(event))
        question = panel.wording.said(str(event.value))
        if not question.strip():
            raise InputError(subject.empty)
        return panel.asking(chat, len(before), question), *_BUSY[True]

    def undone(chat: Any, busy: bool, event: gr.UndoData) -> tuple[Any, str]:
        before, question = back_to_question(_settled(panel, chat, busy), _index(event))
        return plain_messages(chat)[: len(before)], question

    both, held = [panel.chat, panel.question], [panel.chat, panel.busy]
    begun = [panel.chat, *panel.state]
    panel.chat.undo(show_errors(undone), held, both, **PAGE_EVENT)
    given = [panel.question, panel.chat, subject.media, panel.about, panel.busy]
    asked, outputs = [panel.ask.click, panel.question.submit], [*both, panel.about, *panel.state]
    return [
        gr.on(asked, show_errors(add), given, outputs, **PAGE_EVENT),
        panel.chat.retry(show_errors(again), held, begun, **PAGE_EVENT),
        panel.chat.edit(show_errors(edited), held, begun, **PAGE_EVENT),
    ]


def answered(messages: Sequence[Message]) -> int:
    """Return the number of messages up to the last answer; a failed question has none."""
    number = len(messages)
    while number and messages[number - 1]["role"] == "user":
        number -= 1
    return number


def _settled(panel: Panel, chat: Any, busy: bool) -> list[Message]:
    if busy:  # the next piece of an answer would overwrite a change
        raise InputError(
            "An answer is still coming. Wait for its end, or press Stop; then ask again.",
            title="One question at a time",
        )
    return panel.messages(chat)


def _index(event: Any) -> int:
    """Return the position of an event's message; for groups Gradio gives (message, part)."""
    index = event.index
    return int(index[0] if isinstance(index, (list, tuple)) else index)
