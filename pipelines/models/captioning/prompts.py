"""What a person wrote -> the tokens that a model reads, as many as it has room for. Torch-free."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.core.errors import InputError
from pipelines.core.results import ContextUse, Finish
from pipelines.core.spec import GenerativeTraits
from pipelines.core.text import Turn, replace_surrogates
from pipelines.models.notes import cut_note, dropped_note, finish_notes, script_notes

#: Characters that are looked at for each token that there is room for.
_CHARS_PER_TOKEN = 24

Tokenise = Callable[[str], list[int]]


@dataclass(frozen=True, kw_only=True)
class PromptRequest:
    """What is asked about an image.

    Attributes:
        template: with `{prompt}` or `{question}` in it, or neither.
        text: what the person wrote; "" where the template has no room for it.
        turns: earlier turns, oldest first.
    """

    template: str
    text: str = ""
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImagePrompt:
    """What the model is given.

    Attributes:
        text: with `{image}` filled in.
        ids: its tokens, the image's among them.
        written: what the person wrote, as far as it is read.
        context: how much of it all is read.
    """

    text: str
    ids: tuple[int, ...]
    written: str
    context: ContextUse


class PromptWriter:
    """Writes prompts for one model."""

    def __init__(
        self, traits: GenerativeTraits, tokenise: Tokenise, reserved: Sequence[str] = ()
    ) -> None:
        """Write with `traits`' templates.

        Args:
            traits: the model's.
            tokenise: text, with one image token in it where the image stands in the text, to the
                ids that the model reads, that token repeated as often as it takes.
            reserved: texts with a meaning of their own to the tokeniser; they are taken out of
                what a person writes.
        """
        self._traits = traits
        self._tokenise = tokenise
        self._reserved = sorted((text for text in reserved if text.strip()), key=len, reverse=True)

    def write(self, request: PromptRequest, *, limit: int) -> ImagePrompt:
        """Return the prompt for `request` in at most `limit` tokens.

        Where it does not fit, the oldest turns are left out first; then the end of what the
        person wrote. The image and the template stay.

        Raises:
            InputError: not even the image and the template fit.
        """
        text = self._clean(request.text)
        given = len(text)
        text = text[: limit * _CHARS_PER_TOKEN]
        turns = self._recent(request.turns, limit * _CHARS_PER_TOKEN)

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

    def _recent(self, turns: Sequence[Turn], room: int) -> tuple[Turn, ...]:
        """Return the latest turns that have no more than `room` characters together."""
        kept: list[Turn] = []
        for turn in reversed(turns):
            room -= len(turn.question) + len(turn.answer)
            if room < 0:
                break
            kept.append(Turn(self._clean(turn.question), self._clean(turn.answer)))
        return tuple(reversed(kept))

    def _shorten(self, template: str, text: str, limit: int) -> tuple[str, list[int]]:
        """Return the longest beginning of `text` that fits, with its ids."""
        fits, too_long = 0, len(text)
        best = self._ids(template, "", ())
        if len(best) > limit:
            raise InputError(
                "The image takes {count} tokens of the {limit} that are left beside "
                "max_new_tokens. Set max_new_tokens lower.",
                count=len(best),
                limit=limit,
            )
        while fits + 1 < too_long:
            middle = (fits + too_long) // 2
            ids = self._ids(template, text[:middle].rstrip(), ())
            if len(ids) <= limit:
                fits, best = middle, ids
            else:
                too_long = middle
        return text[:fits].rstrip(), best

    def _ids(self, template: str, text: str, turns: Sequence[Turn]) -> list[int]:
        return self._tokenise(self._render(template, text, turns))

    def _render(self, template: str, text: str, turns: Sequence[Turn]) -> str:
        parts = [self._traits.opening]
        for turn in turns:
            answer = turn.answer
            if "{answer}." in (self._traits.turn or ""):  # the template brings its own full stop
                answer = answer.rstrip(". ")
            parts.append(_fill(self._traits.turn or "", question=turn.question, answer=answer))
        parts.append(_fill(template, prompt=text, question=text))
        first, *others = parts[1:]
        return (
            parts[0]
            + first.replace(_IMAGE, self._traits.image_text)
            + "".join(other.replace(_IMAGE, "") for other in others)
        )

    def _clean(self, text: str) -> str:
        """Return what a person wrote, less what would be taken for control tokens."""
        text = replace_surrogates(text).replace(_IMAGE, "")
        for reserved in self._reserved:
            text = text.replace(reserved, " ")
        return text.strip()


_IMAGE = "{image}"


def _fill(template: str, **values: str) -> str:
    """Fill a template; what is filled in is not looked at again."""
    parts = []
    while template:
        found = [(template.find("{" + n + "}"), n) for n in values if "{" + n + "}" in template]
        if not found:
            break
        at, name = min(found)
        parts += [template[:at], values[name]]
        template = template[at + len(name) + 2 :]
    return "".join([*parts, template])


def notes_on(prompt: ImagePrompt, finish: Finish, traits: GenerativeTraits) -> tuple[str, ...]:
    """Return one sentence for each thing that a person may not expect."""
    context, notes = prompt.context, []
    if context.cut:
        notes.append(cut_note(context.read_chars, context.given_chars))
    if context.dropped_turns:
        notes.append(dropped_note(context.dropped_turns))
    notes += script_notes(prompt.written, traits.languages)
    return (*notes, *finish_notes(finish))
