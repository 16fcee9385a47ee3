"""What a person asks about a video -> the token ids that a model reads. Torch-free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.errors import InputError
from pipelines.core.results import ContextUse
from pipelines.core.text import Turn, mend_surrogates

#: Characters that are looked at for each token that there is room for.
_CHARS_PER_TOKEN = 24

#: (turns, question) -> ids, with one place for the video.
Encode = Callable[[Sequence[tuple[str, str]], str], list[int]]


@dataclass(frozen=True)
class WrittenPrompt:
    """What the model is given.

    Attributes:
        ids: token ids, with one place for the video.
        question: what the person wrote, as far as it is read.
        context: how much of it all is read.
    """

    ids: list[int]
    question: str
    context: ContextUse


def write_prompt(
    encode: Encode,
    turns: Sequence[Turn],
    question: str,
    *,
    num_visual: int,
    limit: int,
    reserved: Sequence[str],
) -> WrittenPrompt:
    """Return the prompt of a conversation about a video.

    A single question that is too long is read as far as there is room.

    Args:
        encode: renders and tokenises.
        turns: questions with their answers so far, oldest first.
        question: what is asked now.
        num_visual: tokens of the video.
        limit: most tokens of video and text together.
        reserved: texts with a meaning of their own to the tokeniser; they are taken out of what
            a person writes.

    Raises:
        InputError: the conversation is too long, or the video leaves no room for a question.
    """
    if limit <= num_visual:
        raise InputError(_too_long(False, num_visual, max(limit, 0)))
    asked = clean(question, reserved)
    earlier = [(clean(turn.question, reserved), clean(turn.answer, reserved)) for turn in turns]

    def ids(read: str) -> list[int]:
        return encode(earlier, read)

    def num_tokens(read: str) -> int:
        return len(ids(read)) - 1 + num_visual

    room = limit * _CHARS_PER_TOKEN
    too_long = sum(len(text) for turn in earlier for text in turn) > room
    if too_long or num_tokens("") > limit or (earlier and num_tokens(asked[:room]) > limit):
        raise InputError(_too_long(bool(earlier), num_visual, limit))
    read = _longest(asked[:room], lambda text: num_tokens(text) <= limit)
    context = ContextUse(
        used_tokens=num_tokens(read),
        limit_tokens=limit,
        read_chars=len(read),
        given_chars=len(asked),
    )
    return WrittenPrompt(ids(read), read, context)


def clean(text: str, reserved: Sequence[str]) -> str:
    """Return what a person wrote, less what would be taken for control tokens."""
    text = mend_surrogates(text)
    for control in sorted(reserved, key=len, reverse=True):
        text = text.replace(control, " ")
    return text


def control_texts(tokenizer: Any) -> list[str]:
    """Return the texts that a tokeniser takes for control tokens."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [text for text in {*added, *tokenizer.all_special_tokens} if text.strip()]


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of a text that fits; the empty one does."""
    if fits(text):
        return text
    good, bad = 0, len(text)
    while good + 1 < bad:
        middle = (good + bad) // 2
        if fits(text[:middle]):
            good = middle
        else:
            bad = middle
    return text[:good]


def _too_long(goes_on: bool, num_visual: int, limit: int) -> str:
    if not goes_on:
        return (
            f"The frames take {num_visual:,} tokens, but the model reads {limit:,} tokens of video "
            "and question together. Allow fewer frames, or set max_new_tokens lower."
        )
    return (
        f"This conversation has grown too long: the model reads {limit:,} tokens of video and "
        f"conversation together, of which the video takes {num_visual:,}. Begin a new conversation "
        "about the video, or allow fewer frames."
    )
