"""Results of image -> text: frozen, of plain Python values. Torch-free."""

from dataclasses import dataclass

from pipelines.core.results import ContextUse, Finish


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
