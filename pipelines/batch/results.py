"""What a run gives for each input. Plain values, no library."""

from dataclasses import dataclass
from typing import Literal

Origin = Literal["model", "known", "existing", "none"]
Existing = Literal["skip", "overwrite", "append", "prepend"]


@dataclass(frozen=True)
class Captioned:
    """The model's caption of one image.

    Attributes:
        text: the caption.
        notes: one sentence each.
        error: why this image has no caption, or "".
    """

    text: str
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Result of one input.

    Attributes:
        index: position of the input in the run, from 0.
        file: the input's name, unique in the run.
        caption: the caption; for an "existing" caption file, its text.
        text: text of the caption file: `caption`, joined with the existing text if requested.
        error: why there is no caption, or "".
        hash: SHA-256 of the file's bytes in hexadecimal digits; "" if they were not read.
        origin: source of the caption: the model; "known" from an earlier run or from the same
            content earlier in this one; "existing" beside the image; "none" with an error.
        notes: one sentence each.
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
    """Return the text of a caption file, given its existing text, or "".

    "append" and "prepend" join the two; otherwise the caption replaces the text. A second call
    changes nothing, so that an interrupted run can be continued.
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
