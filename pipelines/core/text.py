"""Turn what a person typed into a list of texts. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.errors import InputError, kind_of
from pipelines.core.messages import Message

#: Most texts of one request, and most characters of them together.
MAX_TEXTS = 5000
MAX_CHARS = 1_000_000


def split_labels(text: str) -> tuple[list[str], list[str]]:
    """Split labels: one per line, or comma-separated where there is only one line.

    Args:
        text: what was typed; full-width commas count as commas.

    Returns:
        The distinct labels in order, and those that were given more than once.

    Raises:
        InputError: there is none, or there are too many.
    """
    text = _checked(text, "labels")
    one_line = "\n" not in text.strip()
    parts = text.replace("，", ",").split(",") if one_line else text.splitlines()
    return _distinct(parts, "labels", "Write them one per line or separated by commas.")


def split_lines(text: str, name: str, *, distinct: bool = True) -> tuple[list[str], list[str]]:
    """Split texts given one per line; otherwise as `split_labels`.

    With `distinct=False` a text that comes twice stays twice, and nothing counts as repeated.
    """
    text = _checked(text, name)
    lines = text.splitlines()
    kept, repeated = _distinct(lines, name, "Write one per line.")
    if distinct:
        return kept, repeated
    every = [line.strip() for line in lines if line.strip()]
    if len(every) > MAX_TEXTS:
        raise _too_many(name, len(every))
    return every, []


def mend_surrogates(text: str) -> str:
    """Return `text` with lone surrogates, which no encoding can hold, as U+FFFD.

    JSON can carry them ("\ud800"); tokenisers and the answer's own encoding refuse them.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _checked(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise InputError(
            "{name} must be text but got {given}.", name=Message(name), given=kind_of(text)
        )
    if len(text) > MAX_CHARS:
        raise InputError(
            "{name} must be at most {limit:,} characters in all but got {count:,}. Send fewer "
            "at once.",
            name=Message(name),
            limit=MAX_CHARS,
            count=len(text),
        )
    return mend_surrogates(text)


def _distinct(parts: list[str], name: str, hint: str) -> tuple[list[str], list[str]]:
    kept: dict[str, int] = {}
    for part in parts:
        stripped = part.strip()
        if stripped:
            kept[stripped] = kept.get(stripped, 0) + 1
    if not kept:
        raise InputError(
            "{name} must hold at least one text but is empty. {hint}",
            name=Message(name),
            hint=Message(hint),
        )
    if len(kept) > MAX_TEXTS:
        raise _too_many(name, len(kept))
    return list(kept), [label for label, times in kept.items() if times > 1]


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
    """Turn `[{"role": "user", "content": …}, {"role": "assistant", …}, …]` into turns.

    A question that was never answered is left out; answers in a row are one.

    Raises:
        InputError: it is not of that form.
    """
    if not isinstance(history, Sequence | None):
        raise InputError(
            "history must be a list of messages but got {given!r}.", given=str(history)[:80]
        )
    turns: list[Turn] = []
    asked = ""
    for message in history or ():
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if role not in {"user", "assistant"} or not isinstance(content, str):
            raise InputError(
                'history must be a list of {{"role": "user" or "assistant", '
                '"content": text}} but holds {given!r}.',
                given=str(message)[:80],
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


#: How a text begins that a spreadsheet would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def safe_cells(row: Sequence[Any]) -> list[Any]:
    """Return a row whose texts no spreadsheet runs as a formula.

    One that begins with "=", "+", "-", "@" (or their wide forms), a tab or a line end gets an
    apostrophe in front; numbers stay numbers.
    """
    return [
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row
    ]
