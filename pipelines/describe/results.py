"""Results of image -> text: frozen, of plain Python values. Torch-free."""

from dataclasses import dataclass
from typing import Literal

#: Why a text ended: the model ended it, it reached `max_new_tokens`, it began to repeat itself
#: and was cut before that, or it reached a text at which answers end.
Finish = Literal["end", "length", "loop", "stop"]


@dataclass(frozen=True, kw_only=True)
class ContextUse:
    """How much of what was given the model could read.

    Attributes:
        used_tokens: tokens that the model read: of the image, the turns and the prompt.
        limit_tokens: most tokens that it could have read beside the answer asked for.
        dropped_turns: turns (a question with its answer) left out, the oldest ones.
        read_chars: characters of the prompt or question that were read.
        given_chars: characters of it that were given.
    """

    used_tokens: int
    limit_tokens: int
    dropped_turns: int = 0
    read_chars: int = 0
    given_chars: int = 0

    def __post_init__(self) -> None:
        """Check that no more was read than there is room for, or than was given."""
        if self.used_tokens > self.limit_tokens:
            raise ValueError(f"{self.used_tokens} tokens used of {self.limit_tokens}")
        if self.read_chars > self.given_chars:
            raise ValueError(f"{self.read_chars} characters read of {self.given_chars}")

    @property
    def cut(self) -> bool:
        """Whether the prompt or question was longer than the model reads."""
        return self.read_chars < self.given_chars


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a model says about one image.

    Attributes:
        text: the text, without prompt or question; empty where `error` is set.
        model: key of the model.
        finish: why the text ended.
        context: how much was read, or None where `error` is set.
        notes: what a person should know about this text, one sentence each.
        error: why there is no text, or "".
    """

    text: str
    model: str
    finish: Finish = "end"
    context: ContextUse | None = None
    notes: tuple[str, ...] = ()
    error: str = ""

    def __post_init__(self) -> None:
        """Check that there is either a text with its context or an error."""
        if bool(self.error) == (self.context is not None) or (self.error and self.text):
            raise ValueError("a description holds either a text and its context or an error")


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """A piece of a text as it is made; joined in order the pieces are the text.

    Attributes:
        text: the next piece; may be empty in the last delta.
        result: the whole, in the last delta only.
    """

    text: str
    result: Description | None = None
