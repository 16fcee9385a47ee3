"""Which frames to read, by table."""

from math import inf, nan

import numpy as np
import pytest

from pipelines.core.errors import InputError
from pipelines.media.video.frames import indices_at, indices_between, spread_indices, usual_step_s

EVEN = [0.0, 0.5, 1.0, 1.5, 2.0]
UNEVEN = [0.0, 0.1, 0.2, 3.0, 3.1]


@pytest.mark.parametrize(
    ("num_frames", "count", "expected"),
    [
        (1, 1, [0]),
        (1, 8, [0]),
        (2, 1, [1]),
        (4, 8, [0, 1, 2, 3]),
        (4, 4, [0, 1, 2, 3]),
        (9, 1, [4]),
        (10, 2, [2, 7]),
        (10, 3, [1, 5, 8]),
        (100, 4, [12, 37, 62, 87]),
        (7, 5, [0, 2, 3, 4, 6]),
    ],
)
def test_spread(num_frames: int, count: int, expected: list[int]) -> None:
    assert spread_indices(num_frames, count).tolist() == expected


def test_a_spread_is_always_even_and_inside() -> None:
    for num_frames in (*range(1, 40), 10_000_000):
        for count in (1, 2, 3, 7, 16, 64):
            found = spread_indices(num_frames, count)
            assert len(found) == min(num_frames, count)
            assert found[0] >= 0
            assert found[-1] < num_frames
            steps = np.diff(found)
            assert not len(steps) or steps.max() - steps.min() <= 1
            assert not len(steps) or steps.min() >= 1


@pytest.mark.parametrize(("num_frames", "count"), [(10, 0), (10, -3), (0, 4)])
def test_nothing_to_spread(num_frames: int, count: int) -> None:
    with pytest.raises(InputError):
        spread_indices(num_frames, count)


@pytest.mark.parametrize(
    ("times_s", "start_s", "end_s", "expected"),
    [
        (EVEN, 0.0, 0.0, [0, 1, 2, 3, 4]),
        (EVEN, 0.0, 99.0, [0, 1, 2, 3, 4]),
        (EVEN, 0.5, 1.5, [1, 2]),
        (EVEN, 0.6, 1.4, [1, 2]),
        (EVEN, 0.6, 0.7, [1]),
        (EVEN, 2.4, 0.0, [4]),
        (EVEN, 0.0, 0.1, [0]),
        (UNEVEN, 1.0, 2.0, [2]),
        (UNEVEN, 0.15, 3.05, [1, 2, 3]),
        ([0.0], 0.0, 0.0, [0]),
        ([0.0], 0.0, 5.0, [0]),
    ],
)
def test_between(times_s: list[float], start_s: float, end_s: float, expected: list[int]) -> None:
    assert indices_between(times_s, start_s, end_s).tolist() == expected


@pytest.mark.parametrize(
    ("start_s", "end_s", "says"),
    [
        (2.0, 1.0, "The start (2 s) must come before the end (1 s)"),
        (1.0, 1.0, "The start (1 s) must come before the end (1 s)"),
        (-1.0, 0.0, "0 or more, but got start -1 and end 0"),
        (0.0, -2.0, "0 or more, but got start 0 and end -2"),
        (nan, 0.0, "but got start nan"),
        (0.0, inf, "and end inf"),
        (3.0, 0.0, "The start (3 s) lies after the end of the video (2.50 s)"),
    ],
)
def test_parts_that_are_none(start_s: float, end_s: float, says: str) -> None:
    with pytest.raises(InputError) as caught:
        indices_between(EVEN, start_s, end_s)
    assert says in caught.value.message


def test_a_part_of_no_frames() -> None:
    with pytest.raises(InputError):
        indices_between([], 0.0, 0.0)


@pytest.mark.parametrize(
    ("moment_s", "expected"),
    [(-5.0, 0), (0.0, 0), (0.09, 0), (0.0999999, 1), (0.1, 1), (2.9, 2), (3.0, 3), (99.0, 4)],
)
def test_the_frame_on_show(moment_s: float, expected: int) -> None:
    assert indices_at(UNEVEN, [moment_s]).tolist() == [expected]


def test_the_usual_step() -> None:
    assert usual_step_s(UNEVEN) == pytest.approx(0.1)
    assert usual_step_s([0.0]) == 0.0
