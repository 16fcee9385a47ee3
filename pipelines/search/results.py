"""Contents and answers of an index of files: frozen, of plain values."""

from dataclasses import dataclass
from typing import Literal

from pipelines.core.results import FileKind, Verdict

#: Outcome of a file: encoded, indexed already, indexed already under another name, same content as
#: another file of the run, or not readable.
Outcome = Literal["added", "known", "renamed", "same", "error"]


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """A file of an index.

    Attributes:
        content: hash of its content, 40 hexadecimal digits.
        name: the owner's name of it.
        path: its place when it was indexed; it may be gone.
        num_parts: number of its vectors.
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
    """Outcome of one file of a run.

    Attributes:
        kind: picture or video; "" if unknown.
        error: why it is not in the index, or "".
        notes: one sentence each.
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
    """Size of an index: its pictures, videos and vectors."""

    pictures: int = 0
    videos: int = 0
    vectors: int = 0

    def __add__(self, other: "IndexSummary") -> "IndexSummary":
        return IndexSummary(
            pictures=self.pictures + other.pictures,
            videos=self.videos + other.videos,
            vectors=self.vectors + other.vectors,
        )


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """One result of a search.

    Attributes:
        start_s: start of the part of a video; 0.0 for a picture.
        end_s: its end.
        cosine: similarity to the query, -1..1.
        strength: 1.0 for the best of its kind, 0.0 for the level of the rest of the index.
        verdict: meaning of the similarity; None where the model is not calibrated for it.
        alike: names of near-duplicate files, or parts of videos, that it stands for.
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
    """The answer to a query: files, best first, and the size of the index."""

    found: tuple[FoundFile, ...]
    searched: IndexSummary
    notes: tuple[str, ...] = ()
