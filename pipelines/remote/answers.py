"""What remote models of every task share: the context of an answer, and notes on it. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.answer_notes import cut_note, dropped_note, finish_notes
from pipelines.conversation import Turn
from pipelines.core.errors import InputError
from pipelines.core.options import GenerationOptions
from pipelines.core.results import ContextUse
from pipelines.models.remote.messages import recent, written
from pipelines.models.remote.stream import Reply


@dataclass(frozen=True)
class Question:
    """What is sent of what a person wrote.

    Attributes:
        text: the question, or what is asked for in place of one.
        turns: earlier turns, oldest first.
        given_chars: characters that the person wrote.
        dropped_turns: turns that are not sent, the oldest ones.
    """

    text: str
    turns: tuple[Turn, ...] = ()
    given_chars: int = 0
    dropped_turns: int = 0

    @classmethod
    def of(cls, text: str, turns: Sequence[Turn] = ()) -> "Question":
        """Return what is sent of a text and the turns before it."""
        kept = recent(turns)
        return cls(written(text), kept, len(text.strip()), len(turns) - len(kept))

    def context(self, reply: Reply) -> ContextUse:
        """Return how much was read, as far as the server tells."""
        used, limit_tokens = reply.prompt_tokens or 0, reply.limit_tokens
        return ContextUse(
            used_tokens=min(used, limit_tokens) if limit_tokens else used,
            limit_tokens=limit_tokens if reply.prompt_tokens is not None else 0,
            dropped_turns=self.dropped_turns,
            read_chars=min(len(self.text), self.given_chars),
            given_chars=self.given_chars,
        )

    def notes(self, reply: Reply, context: ContextUse) -> tuple[str, ...]:
        """Return one sentence for each thing that a person may not expect."""
        notes = [cut_note(context.read_chars, context.given_chars)] if context.cut else []
        if self.dropped_turns:
            notes.append(dropped_note(self.dropped_turns))
        if reply.own_sampling:
            notes.append(
                "The model's server refused temperature, top_p and seed: it used its own, so the "
                "text may differ from time to time."
            )
        return (*notes, *finish_notes(reply.finish))


def check_beams(options: GenerationOptions) -> None:
    """Refuse what no server of chat completions does.

    Raises:
        InputError: beams are asked for.
    """
    if options.num_beams > 1:
        raise InputError(
            "A remote model does not search with beams. Set num_beams to 1, or choose a model of "
            "this machine."
        )
