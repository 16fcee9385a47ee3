"""A conversation as it travels with a request: read, and extended. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.errors import InputError


@dataclass(frozen=True)
class Turn:
    """A question with its answer."""

    question: str
    answer: str


def read_history(history: Sequence[Mapping[str, Any]] | None) -> tuple[Turn, ...]:
    """Turn `[{"role": "user", "content": …}, {"role": "assistant", …}, …]` into turns.

    A question that was never answered is left out; answers in a row are one.

    Raises:
        InputError: it is not of that form.
    """
    if not isinstance(history, Sequence | None):
        raise InputError(f"history must be a list of messages but got {str(history)[:80]!r}.")
    turns: list[Turn] = []
    asked = ""
    for message in history or ():
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if role not in {"user", "assistant"} or not isinstance(content, str):
            raise InputError(
                'history must be a list of {"role": "user" or "assistant", "content": text} '
                f"but holds {str(message)[:80]!r}."
            )
        if role == "user":
            asked = content
        elif asked or not turns:
            turns.append(Turn(asked, content))
            asked = ""
        else:
            turns[-1] = Turn(turns[-1].question, f"{turns[-1].answer}\n{content}")
    return tuple(turns)


def extend_history(
    history: Sequence[Mapping[str, Any]] | None,
    message: str,
    answer: str,
    notes: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the history with one more question and its answer at the end.

    Args:
        history: the earlier messages; of each, role and content are kept.
        message: the question.
        answer: what was answered.
        notes: on this answer, kept beside it as "notes"; None for an answer that has not ended.
    """
    earlier = [{"role": str(m["role"]), "content": str(m["content"])} for m in history or ()]
    said: dict[str, Any] = {"role": "assistant", "content": answer}
    if notes is not None:
        said["notes"] = list(notes)
    return [*earlier, {"role": "user", "content": message}, said]
