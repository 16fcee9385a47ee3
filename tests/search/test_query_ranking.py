"""What is worth showing, and what stands for what."""

import numpy as np
import pytest

from pipelines.models.search_query import QueryVector, blend
from pipelines.search.query import MOST_OF_A_VIDEO, fold, strengths, without_overlaps


def unit(*values: float) -> np.ndarray:
    vector = np.asarray(values, np.float32)
    return vector / np.linalg.norm(vector)


def test_a_blend_is_the_weighted_sum() -> None:
    text, image = unit(1, 0, 0), unit(0, 1, 0)
    assert blend(text, None, 0.3) == pytest.approx(text)
    assert blend(None, image, 0.3) == pytest.approx(image)
    assert blend(text, image, 0.5) == pytest.approx(unit(1, 1, 0))
    assert blend(text, image, 0.2) == pytest.approx(unit(2, 8, 0))
    assert blend(text, image, 1.0) == pytest.approx(text)
    pairs = ((text, None), (None, image), (text, image))
    kinds = [QueryVector.of(*pair, 0.5, ()).kind for pair in pairs]
    assert kinds == ["text", "image", "both"]


def test_opposite_vectors_do_not_divide_by_zero() -> None:
    assert np.isfinite(blend(unit(1, 0), unit(-1, 0), 0.5)).all()


def test_the_rest_of_the_index_is_the_measure() -> None:
    """The same cosines stand out in one index and not in another."""
    near = np.asarray([0.30, 0.28, 0.21], np.float32)
    low, high = np.full(100, 0.10, np.float32), np.full(100, 0.20, np.float32)
    assert strengths(near, low) == pytest.approx([1.0, 0.9, 0.55], abs=1e-5)
    assert strengths(near, high) == pytest.approx([1.0, 0.8, 0.1], abs=1e-5)


def test_an_index_that_is_all_alike_is_shown_whole() -> None:
    same = np.full(5, 0.3, np.float32)
    assert strengths(same, same).tolist() == [1.0] * 5
    assert strengths(same[:0], same).tolist() == []


def test_strength_does_not_depend_on_how_often_the_query_is_met() -> None:
    """Half of the index fits: the low quantile is still of the other half."""
    sample = np.asarray([0.3] * 50 + [0.1] * 50, np.float32)
    assert strengths(sample[:60], sample)[:50] == pytest.approx(np.ones(50))
    assert strengths(sample[:60], sample)[50:] == pytest.approx(np.zeros(10), abs=1e-6)


def test_windows_of_a_video_do_not_overlap_a_better_one() -> None:
    contents = ["v", "v", "p", "v", "w", "v", "v", "v"]
    starts = [4.0, 5.0, 0.0, 8.0, 5.0, 0.0, 12.0, 16.0]
    ends = [8.0, 9.0, 0.0, 12.0, 9.0, 4.0, 16.0, 20.0]
    kept = without_overlaps(contents, starts, ends)
    assert kept == [0, 2, 3, 4, 5]  # 5 overlaps 4..8; the last two are more than three of v
    assert sum(contents[index] == "v" for index in kept) == MOST_OF_A_VIDEO


def test_a_picture_is_there_once() -> None:
    """Two runs at the same time may both have written its vector."""
    assert without_overlaps(["p", "q", "p"], [0.0] * 3, [0.0] * 3) == [0, 1]


def test_near_duplicates_are_folded_under_the_best() -> None:
    first, other = unit(1, 0, 0), unit(0, 1, 0)
    near = unit(1, 0.05, 0)
    assert float(near @ first) > 0.99
    assert fold(np.stack([first, other, near, first])) == [[0, 2, 3], [1]]
    assert fold(np.stack([first, other, near]), alike=0.9999) == [[0], [1], [2]]
    assert fold(np.zeros((0, 3), np.float32)) == []
