"""Prompts of image-to-text models, shortened to a limit of tokens."""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.core.errors import InputError
from pipelines.core.results import ContextUse, Finish
from pipelines.core.spec import GenerativeTraits
from pipelines.core.text import Turn, latest_turns, longest_beginning, replace_surrogates
from pipelines.models.notes import answer_notes, script_notes

#: Characters that are tokenised for each available token.
_CHARS_PER_TOKEN = 24

Tokenise = Callable[[str], list[int]]


@dataclass(frozen=True, kw_only=True)
class PromptRequest:
    """A request about an image.

    `template` has `{prompt}` or `{question}`, or neither if `text`, what the visitor wrote, is "".
    `turns` are earlier ones, oldest first.
    """

    template: str
    text: str = ""
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImagePrompt:
    """A model's input `text`, its token `ids` including the image's, and the use of its context.

    `written` is the part of the visitor's text that is read.
    """

    text: str
    ids: tuple[int, ...]
    written: str
    context: ContextUse


class PromptWriter:
    """Writer of prompts for one model.

    `tokenise` maps a text with at most one image token to the ids that the model reads, with the
    image token repeated as often as needed. `reserved` are control texts of the tokeniser; they are
    removed from what a visitor writes.
    """

    def __init__(
        self, traits: GenerativeTraits, tokenise: Tokenise, reserved: Sequence[str] = ()
    ) -> None:
        self._traits = traits
        self._tokenise = tokenise
        self._reserved = sorted((text for text in reserved if text.strip()), key=len, reverse=True)

    def write(self, request: PromptRequest, *, limit: int) -> ImagePrompt:
        """Return the prompt for `request` in at most `limit` tokens.

        If necessary the oldest turns are dropped first, then the end of the visitor's text; image
        and template are never cut.

        Raises:
            InputError: image and template alone do not fit.
        """
        text = self._clean(request.text)
        given = len(text)
        text = text[: limit * _CHARS_PER_TOKEN]
        turns = [
            Turn(self._clean(turn.question), self._clean(turn.answer))
            for turn in latest_turns(request.turns, limit * _CHARS_PER_TOKEN)
        ]

        def fits(left_out: int) -> bool:
            return len(self._ids(request.template, text, turns[left_out:])) <= limit

        if turns and not fits(0):
            turns = turns[bisect_left(range(len(turns)), True, lo=1, key=fits) :]
        ids = self._ids(request.template, text, turns)
        if len(ids) > limit:
            text, ids = self._shorten(request.template, text, limit)
        return ImagePrompt(
            text=self._render(request.template, text, turns),
            ids=tuple(ids),
            written=text,
            context=ContextUse(
                used_tokens=len(ids),
                limit_tokens=limit,
                dropped_turns=len(request.turns) - len(turns),
                read_chars=len(text),
                given_chars=given,
            ),
        )

    def _shorten(self, template: str, text: str, limit: int) -> tuple[str, list[int]]:
        """Return the longest beginning of `text` that fits, with its ids."""
        if (count := len(self._ids(template, "", ()))) > limit:
            raise InputError(
                "The image takes {count} tokens of the {limit} that are left beside "
                "max_new_tokens. Set max_new_tokens lower.",
                count=count,
                limit=limit,
            )

        def fits(beginning: str) -> bool:
            return len(self._ids(template, beginning.rstrip(), ())) <= limit

        text = longest_beginning(text, fits).rstrip()
        return text, self._ids(template, text, ())

    def _ids(self, template: str, text: str, turns: Sequence[Turn]) -> list[int]:
        return self._tokenise(self._render(template, text, turns))

    def _render(self, template: str, text: str, turns: Sequence[Turn]) -> str:
        parts = []
        for turn in turns:
            answer = turn.answer
            if "{answer}." in (self._traits.turn or ""):  # the template has its own full stop
                answer = answer.rstrip(". ")
            parts.append(_fill(self._traits.turn or "", question=turn.question, answer=answer))
        parts.append(_fill(template, prompt=text, question=text))
        first = parts[0].replace(_IMAGE, self._traits.image_text)
        others = [part.replace(_IMAGE, "") for part in parts[1:]]
        return "".join([self._traits.opening, first, *others])

    def _clean(self, text: str) -> str:
        """Return a text without control texts."""
        text = replace_surrogates(text).replace(_IMAGE, "")
        for reserved in self._reserved:
            text = text.replace(reserved, " ")
        return text.strip()


_IMAGE = "{image}"


def _fill(template: str, **values: str) -> str:
    """Fill a template; values are not searched for placeholders."""
    names = "|".join(values)
    return re.sub(rf"\{{({names})\}}", lambda found: values[found[1]], template)


def notes_on(prompt: ImagePrompt, finish: Finish, traits: GenerativeTraits) -> tuple[str, ...]:
    """Return notes on a text's prompt and end."""
    language = script_notes(prompt.written, traits.languages)
    return tuple(answer_notes(prompt.context, finish, language))
