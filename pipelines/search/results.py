"""What an index of files holds and answers: frozen, of plain values. Torch-free."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.core.results import Verdict

FileKind = Literal["picture", "video"]
AimKind = Literal["text", "image", "both"]

#: What became of a file that was given to an index: encoded, there already, there under another
#: name or place until now, of one content with another file of the same run, or not readable.
Outcome = Literal["added", "known", "renamed", "same", "error"]

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Aim:
    """A query as a model sees it.

    Attributes:
        vector: (D,) float32, of length 1.
        kind: what it was made of.
        notes: what a person should know, one sentence each.
    """

    vector: Vectors
    kind: AimKind
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a similarity means, where the model is calibrated for such a pair.

    Attributes:
        evidence: verdict score.
        verdict: what it means.
    """

    evidence: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The vectors of one file: one of a picture, one for each window of a video.

    Attributes:
        starts_s: (N,) where each part starts; 0 for a picture.
        ends_s: (N,) where it ends; 0 for a picture.
        vectors: (N, D) float32, of length 1 each.
        notes: what a person should know, one sentence each.
    """

    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    vectors: Vectors
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the shapes."""
        if not len(self.starts_s) == len(self.ends_s) == len(self.vectors):
            raise ValueError(
                f"{len(self.starts_s)} starts, {len(self.ends_s)} ends, {len(self.vectors)} vectors"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class SomeWindows:
    """Windows of a video one after the other; whoever has them can go on with the next ones.

    Attributes:
        done: windows up to here, from the start of the video on.
        total: windows of the whole video.
        parts: those since the last time of which a frame can be read.
        lost: numbers of frames that could not be read, as far as this process knows.
        num_frames: frames that all windows are read by.
    """

    done: int
    total: int
    parts: Parts
    lost: frozenset[int]
    num_frames: int


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
        """Check that an error has its reason, and nothing else has one."""
        if bool(self.error) != (self.outcome == "error"):
            raise ValueError(f"{self.outcome!r} does not go with the error {self.error!r}")


@dataclass(frozen=True, kw_only=True)
class Holding:
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
class Found:
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
        """Check the ranges."""
        if not -1.001 <= self.cosine <= 1.001:
            raise ValueError(f"cosine must be within -1..1 but got {self.cosine}")
        if not 0.0 <= self.start_s <= self.end_s:
            raise ValueError(f"a part must end after it starts: {self.start_s}..{self.end_s}")


@dataclass(frozen=True, kw_only=True)
class Search:
    """The answer to a query.

    Attributes:
        found: best first.
        searched: what the index held.
        notes: what a person should know, one sentence each.
    """

    found: tuple[Found, ...]
    searched: Holding
    notes: tuple[str, ...] = ()
