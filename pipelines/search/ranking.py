"""Which of the nearest are worth showing, and which stand for others. Torch-free.

Pure functions over numbers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.search.results import AimKind, Vectors

#: Share of the index whose similarity to the query counts as the rest that a result must beat:
#: up to this quantile. Low, so that it is no match of a query that fits much of the index.
BACKGROUND = 0.25

#: How far above the rest a result must be, as a share of the way to the best one. Chosen on drawn
#: scenes (NOTES.md); what the model is calibrated to call a match is shown in any case.
EDGE = 0.85

#: Cosine from which on two results are taken for the same: the same picture in another size or
#: file format, windows of a video in which nothing changes.
ALIKE = 0.99

#: Windows of one video that are shown at most, so that a long one does not fill the page.
MOST_OF_A_VIDEO = 3


def aim_kind(text: Vectors | None, image: Vectors | None) -> AimKind:
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


def strengths(cosines: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far each similarity stands out: 1 for the best, 0 for the rest of the index.

    A cosine of 0.25 means nothing by itself, and a fixed threshold would show all of one index
    and nothing of another. So the rest of the index is the measure: its low quantile is 0.

    Args:
        cosines: (N,) of the nearest with the query.
        sample: (M,) of vectors drawn from the whole index.

    Returns:
        (N,); all 1 where the index is all alike to the query.
    """
    if not len(cosines):
        return np.zeros(0)
    best = float(cosines.max())
    rest = float(np.quantile(sample, BACKGROUND)) if len(sample) else best
    if best - rest < 1e-4:
        return np.ones(len(cosines))
    return (cosines.astype(np.float64) - rest) / (best - rest)


def apart_in_time(
    contents: Sequence[str], starts_s: Sequence[float], ends_s: Sequence[float]
) -> list[int]:
    """Return the positions to keep, of parts best first: none overlaps a better one of its video.

    Args:
        contents: of N parts, which file each is of.
        starts_s: where each starts; a picture starts and ends at 0.
        ends_s: where it ends.
    """
    kept: list[int] = []
    taken: dict[str, list[int]] = {}
    for index, content in enumerate(contents):
        others = taken.setdefault(content, [])
        if len(others) >= MOST_OF_A_VIDEO:
            continue
        overlaps = any(
            starts_s[index] == starts_s[other]
            or (starts_s[index] < ends_s[other] and starts_s[other] < ends_s[index])
            for other in others
        )
        if not overlaps:
            others.append(index)
            kept.append(index)
    return kept


def fold(vectors: Vectors, *, alike: float = ALIKE) -> list[list[int]]:
    """Group near-duplicates.

    Args:
        vectors: (N, D) of length 1, best first.
        alike: cosine from which on one joins the first group whose head it is so near to.

    Returns:
        Groups of positions; the first of each stands for the others.
    """
    groups: list[list[int]] = []
    heads: list[int] = []
    for index in range(len(vectors)):
        near = vectors[heads] @ vectors[index] if heads else np.zeros(0)
        if len(near) and float(near.max()) >= alike:
            groups[int((near >= alike).argmax())].append(index)
        else:
            groups.append([index])
            heads.append(index)
    return groups
