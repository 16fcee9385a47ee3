"""Search queries and the vectors of files, as a model gives them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.core.results import Verdict

QueryKind = Literal["text", "image", "both"]


Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryVector:
    """A query as a model sees it.

    Attributes:
        vector: (D,) float32, of length 1.
        kind: what it was made of.
        notes: what a person should know, one sentence each.
    """

    vector: Vectors
    kind: QueryKind
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What a similarity means, where the model is calibrated for such a pair.

    Attributes:
        evidence: verdict score.
        verdict: what it means.
    """

    evidence: float
    verdict: Verdict


def query_kind(text: Vectors | None, image: Vectors | None) -> QueryKind:
    """Return what a query is made of; one of the two is there."""
    if text is not None and image is not None:
        return "both"
    return "text" if text is not None else "image"


def blend(text: Vectors | None, image: Vectors | None, text_weight: float) -> Vectors:
    """Return the unit vector of a query: the weighted sum of what there is.

    Args:
        text: (D,) of length 1, or None.
        image: likewise; one of the two is there.
        text_weight: share of the text, 0..1, where both are there.
    """
    if text is None or image is None:
        mixed = text if image is None else image
        assert mixed is not None
    else:
        mixed = np.asarray(text_weight * text + (1.0 - text_weight) * image, np.float32)
    length = float(np.linalg.norm(mixed))
    return np.asarray(mixed / length if length > 1e-6 else mixed, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class FileVectors:
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
class WindowBatch:
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
    parts: FileVectors
    lost: frozenset[int]
    num_frames: int
