"""What an index of files holds and answers: frozen, of plain values. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from pipelines.core.results import FileKind, Verdict

#: What became of a file that was given to an index: encoded, there already, there under another
#: name or place until now, of one content with another file of the same run, or not readable.
Outcome = Literal["added", "known", "renamed", "same", "error"]


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """A file of an index.

    Attributes:
        content: 40 hexadecimal digits that tell its content.
        name: what its owner calls it.
        kind: what it is.
        path: where it lay when it was indexed; it may be gone.
        num_parts: vectors that it has.
        thumbnail: a small JPEG, or empty.
    """

    content: str
    name: str
    kind: FileKind
    path: str
    num_parts: int
    thumbnail: bytes = b""


@dataclass(frozen=True, kw_only=True)
class FileOutcome:
    """What became of one file of a run.

    Attributes:
        file: its name.
        kind: what it is; "" where that could not be told.
        outcome: what became of it.
        error: why it is not in the index, or "".
        notes: what a person should know, one sentence each.
    """

    file: str
    kind: FileKind | Literal[""]
    outcome: Outcome
    error: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.error) != (self.outcome == "error"):
            raise ValueError(f"{self.outcome!r} does not go with the error {self.error!r}")


@dataclass(frozen=True, kw_only=True)
class IndexSummary:
    """How much an owner's index holds.

    Attributes:
        pictures: number of pictures.
        videos: number of videos.
        vectors: number of vectors.
    """

    pictures: int = 0
    videos: int = 0
    vectors: int = 0


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """One result of a search.

    Attributes:
        file: the file.
        start_s: where in a video it is; 0.0 for a picture.
        end_s: where that ends.
        cosine: similarity to the query as the model gives it, -1..1.
        strength: 1.0 for the best of its kind, 0.0 for what is as good as the rest of the index.
        verdict: what the similarity means; None where the model is not calibrated for it.
        alike: names of files, or parts of videos, so alike to this one that it stands for them.
    """

    file: IndexedFile
    start_s: float
    end_s: float
    cosine: float
    strength: float
    verdict: Verdict | None
    alike: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not -1.001 <= self.cosine <= 1.001:
            raise ValueError(f"cosine must be within -1..1 but got {self.cosine}")
        if not 0.0 <= self.start_s <= self.end_s:
            raise ValueError(f"a part must end after it starts: {self.start_s}..{self.end_s}")


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The answer to a query.

    Attributes:
        found: best first.
        searched: what the index held.
        notes: what a person should know, one sentence each.
    """

    found: tuple[FoundFile, ...]
    searched: IndexSummary
    notes: tuple[str, ...] = ()
