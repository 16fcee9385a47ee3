"""Vectors of search queries and of indexed files."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.core.results import Verdict

QueryKind = Literal["text", "image", "both"]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryVector:
    """A query: (D,) float32 unit vector, kind, and notes for the person who asked."""

    vector: Vectors
    kind: QueryKind
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, text: Vectors | None, image: Vectors | None, text_weight: float, notes: Iterable[str]
    ) -> "QueryVector":
        """Return the query for a text, an image, or both; see `blend`."""
        kind: QueryKind = "image" if text is None else "text" if image is None else "both"
        return cls(vector=blend(text, image, text_weight), kind=kind, notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A similarity's verdict score, and the verdict from a calibrated threshold."""

    evidence: float
    verdict: Verdict


def blend(text: Vectors | None, image: Vectors | None, text_weight: float) -> Vectors:
    """Return the unit vector of (D,) unit vectors: one, or both with `text_weight` in 0..1."""
    if text is None or image is None:
        mixed = text if image is None else image
        assert mixed is not None
    else:
        mixed = np.asarray(text_weight * text + (1.0 - text_weight) * image, np.float32)
    length = float(np.linalg.norm(mixed))
    return np.asarray(mixed / length if length > 1e-6 else mixed, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class FileVectors:
    """(N, D) float32 unit vectors of one image, or of the windows of a video, with their times.

    Starts and ends are in seconds, (N,) each; 0 for an image.
    """

    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    vectors: Vectors
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.starts_s) == len(self.ends_s) == len(self.vectors):
            raise ValueError(
                f"{len(self.starts_s)} starts, {len(self.ends_s)} ends, {len(self.vectors)} vectors"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowBatch:
    """Consecutive windows of a video; the computation can be resumed after them.

    Attributes:
        done: windows so far, of `total`.
        parts: readable windows of this batch.
        lost: known numbers of unreadable frames.
        num_frames: distinct frames of all windows.
    """

    done: int
    total: int
    parts: FileVectors
    lost: frozenset[int]
    num_frames: int
