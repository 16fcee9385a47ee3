"""Parsing of typed texts, chat histories and table cells."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.errors import InputError, type_name
from pipelines.core.messages import Message

#: Limits of one request: number of texts, and characters of all of them.
MAX_TEXTS = 5000
MAX_CHARS = 1_000_000


def split_labels(text: str) -> tuple[list[str], list[str]]:
    """Split labels: one per line, or separated by commas (also full-width) if on one line.

    Returns:
        The distinct labels in order, and the labels that occur more than once.

    Raises:
        InputError: there are no labels, or too many.
    """
    text = _checked(text, "labels")
    one_line = "\n" not in text.strip()
    parts = text.replace("，", ",").split(",") if one_line else _lines(text)
    return _distinct(parts, "labels", "Write them one per line or separated by commas.")


def split_lines(text: str, name: str) -> tuple[list[str], list[str]]:
    """Split texts given one per line, as `split_labels` does.

    `name` is the name of the field in messages.
    """
    return _distinct(_lines(_checked(text, name)), name, "Write one per line.")


def every_line(text: str, name: str) -> list[str]:
    """Return every line without blanks around it, in order; a blank line is "".

    A line feed at the end of `text` begins no further line. For `name` and errors see
    `split_lines`.
    """
    lines = [line.strip() for line in _lines(_checked(text, name))]
    _distinct(lines, name, "Write one per line.")
    if len(lines) > MAX_TEXTS:
        raise _too_many(name, len(lines))
    return lines


def _lines(text: str) -> list[str]:
    """Split at line feeds only; `str.splitlines` takes eight other characters for line ends."""
    return text.removesuffix("\n").split("\n")


#: Bytes that a bounded name keeps of its end.
_NAME_END = 48


def bounded_name(name: str, max_bytes: int) -> str:
    """Return a file name of at most `max_bytes` (100 or more) in UTF-8.

    A longer name loses its middle: it keeps its beginning and its end with the ending, and eight
    digits of its SHA-256 distinguish it from other names with both.
    """
    data = name.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return name
    middle = f"…{hashlib.sha256(data).hexdigest()[:8]}…"
    head = data[: max_bytes - len(middle.encode()) - _NAME_END].decode("utf-8", "ignore")
    return head + middle + data[-_NAME_END:].decode("utf-8", "ignore")


def replace_surrogates(text: str) -> str:
    """Return `text` with lone surrogates, which JSON allows and tokenizers refuse, as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _checked(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise InputError(
            "{name} must be text but got {given}.", name=Message(name), given=type_name(text)
        )
    if len(text) > MAX_CHARS:
        raise InputError(
            "{name} must be at most {limit:,} characters in all but got {count:,}. Send fewer "
            "at once.",
            name=Message(name),
            limit=MAX_CHARS,
            count=len(text),
        )
    return replace_surrogates(text)


def _distinct(parts: list[str], name: str, hint: str) -> tuple[list[str], list[str]]:
    counts = Counter(stripped for part in parts if (stripped := part.strip()))
    if not counts:
        raise InputError(
            "{name} must hold at least one text but is empty. {hint}",
            name=Message(name),
            hint=Message(hint),
        )
    if len(counts) > MAX_TEXTS:
        raise _too_many(name, len(counts))
    return list(counts), [text for text, count in counts.items() if count > 1]


def _too_many(name: str, count: int) -> InputError:
    return InputError(
        "{name} must be at most {limit:,} texts but got {count:,}. Split them over several "
        "requests.",
        name=Message(name),
        limit=MAX_TEXTS,
        count=count,
    )


def cut_note(max_tokens: int) -> str:
    """Return the note on a text of which only the first `max_tokens` tokens were read."""
    return Message(
        "Longer than the model reads: only its first {limit} tokens were used.", limit=max_tokens
    )


def cut_texts_note(cut: int, total: int, max_tokens: int) -> str:
    """Return the note on `cut` of `total` texts that are longer than the model reads."""
    return Message(
        "{cut} of {total} texts are longer than the model reads: only the first {limit} tokens of "
        "each were used.",
        cut=cut,
        total=total,
        limit=max_tokens,
    )


@dataclass(frozen=True)
class Turn:
    """A question with its answer."""

    question: str
    answer: str


def read_history(history: Sequence[Mapping[str, Any]] | None) -> tuple[Turn, ...]:
    """Convert messages with role "user" or "assistant" and content to turns.

    The content is text or a list of text parts, `{"type": "text", "text": text}`.

    Unanswered questions are left out; consecutive answers are joined.

    Raises:
        InputError: `history` is not a list of such messages.
    """
    if not isinstance(history, Sequence | None):
        raise InputError(
            "history must be a list of messages but got {given!r}.", given=str(history)[:80]
        )
    turns: list[Turn] = []
    question = ""
    for message in history or ():
        role = message.get("role") if isinstance(message, Mapping) else None
        content = _content(message) if isinstance(message, Mapping) else None
        if role not in {"user", "assistant"} or not isinstance(content, str):
            raise InputError(
                'history must be a list of {{"role": "user" or "assistant", '
                '"content": text}} but holds {given!r}.',
                given=str(message)[:80],
            )
        if role == "user":
            question = content
        elif question or not turns:
            turns.append(Turn(question, content))
            question = ""
        else:
            turns[-1] = Turn(turns[-1].question, f"{turns[-1].answer}\n{content}")
    return tuple(turns)


def _content(message: Mapping[str, Any]) -> str | None:
    """Return the text of a message, whose content is text or a list of text parts, or None."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts: list[Any] = [p.get("text") if isinstance(p, Mapping) else p for p in content]
    return "\n".join(texts) if texts and all(isinstance(text, str) for text in texts) else None


def latest_turns(turns: Sequence[Turn], max_chars: int) -> Sequence[Turn]:
    """Return the latest turns, of at most `max_chars` characters together."""
    for start in range(len(turns), 0, -1):
        max_chars -= len(turns[start - 1].question) + len(turns[start - 1].answer)
        if max_chars < 0:
            return turns[start:]
    return turns


def longest_beginning(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of a text that fits, by bisection; the empty one does."""
    if fits(text):
        return text
    good, bad = 0, len(text)
    while good + 1 < bad:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(text[:middle]) else (good, middle)
    return text[:good]


def extend_history(
    history: Sequence[Mapping[str, Any]] | None,
    message: str,
    answer: str,
    notes: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return a history, reduced to role and content, with a question and its answer appended.

    `notes` are added to the answer as "notes"; None for an unfinished answer.
    """
    earlier = [{"role": str(m["role"]), "content": _content(m) or ""} for m in history or ()]
    reply: dict[str, Any] = {"role": "assistant", "content": answer}
    if notes is not None:
        reply["notes"] = list(notes)
    return [*earlier, {"role": "user", "content": message}, reply]


#: First characters of a text that a spreadsheet runs as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def safe_cells(row: Sequence[Any]) -> list[Any]:
    """Return a row with an apostrophe before each text that a spreadsheet runs as a formula."""
    return [
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row
    ]
