"""Conversations as a chat component holds them, as plain messages. Pure functions."""

from collections.abc import Sequence
from typing import Any

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
    """Return the text of a message's content: a text, a part, or a list of parts."""
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
