"""What a run gives for each input. Plain values, no library."""

from dataclasses import dataclass
from typing import Literal

Origin = Literal["model", "known", "existing", "none"]
Existing = Literal["skip", "overwrite", "append", "prepend"]


@dataclass(frozen=True)
class Captioned:
    """What the model says about one picture, and what a person should know about it.

    Attributes:
        text: the caption.
        notes: one sentence each.
        error: why there is no caption of this picture, while the others of its batch have theirs,
            or "".
    """

    text: str
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """One input's result.

    Attributes:
        index: position of the input in the run, from 0.
        file: the input's name, unique in the run.
        caption: what the model said; where the caption file stands ("existing"), its text.
        text: what the caption file is to hold: `caption`, joined with what was there if wanted.
        error: why there is no caption, or "".
        hash: SHA-256 of the file's bytes in hexadecimal digits; "" where they were not read.
        origin: where the caption comes from: the model, now; "known" from an earlier run or from
            the same content earlier in this one; "existing" beside it; "none" with an error.
        notes: what a person should know about the caption, one sentence each.
    """

    index: int
    file: str
    caption: str
    text: str
    error: str
    hash: str
    origin: Origin
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.error) != (self.origin == "none") or (self.error and self.caption):
            raise ValueError(f"a result has a caption or an error but got both or none: {self}")


def joined(existing: str, caption: str, how: Existing, separator: str) -> str:
    """Return what a caption file is to hold, given what it holds.

    Doing it twice changes nothing, so a run that was broken off can be taken up again.

    Args:
        existing: the file's text, or "".
        caption: the model's.
        how: "append" and "prepend" join the two; else the caption replaces what is there.
        separator: goes between the two.
    """
    if not existing or how not in ("append", "prepend"):
        return caption
    if not caption or existing == caption:
        return existing
    if how == "append":
        tail = separator + caption
        return existing if existing.endswith(tail) else existing + tail
    head = caption + separator
    return existing if existing.startswith(head) else head + existing
