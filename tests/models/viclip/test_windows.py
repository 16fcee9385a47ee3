"""Windows over a video, and the moments in a curve."""

import numpy as np
import pytest

from pipelines.core.errors import InputError
from pipelines.models.viclip.windows import (
    MAX_WINDOWS,
    SearchOptions,
    check_total,
    clip_indices,
    find_peaks,
    windows_over,
)


def curve(duration: float, *events: tuple[float, float, float]) -> tuple[np.ndarray, ...]:
    """Return evidence, starts, ends: each event lifts a window by the share that it fills."""
    starts, ends = windows_over(duration, SearchOptions())
    evidence = np.full(len(starts), -8.0)
    for start, end, height in events:
        shared = np.minimum(end, ends) - np.maximum(start, starts)
        evidence += height * np.clip(shared, 0, None) / np.minimum(end - start, ends - starts)
    return evidence, starts, ends


def test_windows_reach_from_the_first_frame_to_the_last() -> None:
    starts, ends = windows_over(10.3, SearchOptions(4.0, 1.0))
    assert starts[0] == 0.0
    assert ends[-1] == pytest.approx(10.3)
    assert np.all(np.diff(starts) <= 1.0 + 1e-9)
    assert np.allclose(ends - starts, 4.0)
    assert [values.tolist() for values in windows_over(2.0, SearchOptions())] == [[0.0], [2.0]]


def test_too_many_windows_are_refused_with_a_stride_that_works() -> None:
    options = SearchOptions(1.0, 0.05)
    with pytest.raises(InputError, match=r"Choose a stride of ([\d.]+) s") as caught:
        windows_over(3600.0, options)
    least = float(caught.value.message.split("stride of ")[2].split(" s")[0])
    assert len(windows_over(3600.0, SearchOptions(1.0, least))[0]) <= MAX_WINDOWS
    with pytest.raises(InputError, match="together"):
        check_total(MAX_WINDOWS + 1, options)


@pytest.mark.parametrize(
    "options",
    [
        {"window_s": 0.0},
        {"window_s": float("nan")},
        {"stride_s": -1.0},
        {"stride_s": 5.0},
        {"top_k": 0},
        {"top_k": 1.5},
        {"top_k": "5"},
    ],
)
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must"):
        SearchOptions(**options)  # type: ignore[arg-type]


def test_the_frame_in_the_middle_of_a_piece_stands_for_it() -> None:
    times = np.arange(100) / 10
    indices = clip_indices(times, np.array([0.0, 2.0]), np.array([8.0, 2.4]), 8)
    assert indices[0].tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert indices[1].tolist() == sorted(indices[1].tolist())
    assert set(indices[1]) <= {20, 21, 22, 23}


@pytest.mark.parametrize("span", [(10.0, 16.0), (20.0, 30.0), (3.0, 8.0)])
def test_an_event_longer_than_a_window_is_found_with_its_edges(span: tuple[float, float]) -> None:
    evidence, starts, ends = curve(40.0, (*span, 10.0))
    ((start, end, _),) = find_peaks(evidence, starts, ends, (0.0, 40.0), 1)
    assert start == pytest.approx(span[0], abs=1.0)
    assert end == pytest.approx(span[1], abs=1.0)


@pytest.mark.parametrize("start", [10.0, 10.25, 10.5, 10.75])
def test_edges_lie_between_windows(start: float) -> None:
    """A shift of the event by less than a stride shifts the moment alike."""
    evidence, starts, ends = curve(40.0, (start, start + 6.0, 10.0))
    ((found, end, _),) = find_peaks(evidence, starts, ends, (0.0, 40.0), 1)
    middle = (found + end) / 2
    assert middle == pytest.approx(start + 3.0, abs=0.05)
    assert end - found == pytest.approx(6.0, abs=1.5)


def test_low_peaks_have_a_length_too() -> None:
    starts, ends = windows_over(30.0, SearchOptions())
    evidence = np.where(np.arange(len(starts)) % 5 == 4, 0.0, 1.0)
    evidence[0] = 0.5
    evidence[-4:] = (0.2, 0.1, 0.3, 0.1)
    for start, end, _ in find_peaks(evidence, starts, ends, (0.0, 30.0), 20):
        assert start < end


def test_moments_do_not_overlap_and_come_best_first() -> None:
    evidence, starts, ends = curve(60.0, (8.0, 13.0, 8.0), (30.0, 35.0, 12.0), (48.0, 53.0, 10.0))
    moments = find_peaks(evidence, starts, ends, (0.0, 60.0), 5)
    assert [round((start + end) / 2) for start, end, _ in moments[:3]] == [32, 50, 10]
    spans = sorted((start, end) for start, end, _ in moments)
    assert all(a[1] <= b[0] + 1e-9 for a, b in zip(spans, spans[1:], strict=False))


def test_windows_that_could_not_be_read_are_no_moments() -> None:
    evidence, starts, ends = curve(30.0, (10.0, 15.0, 10.0))
    evidence[8:] = -np.inf
    for start, end, peak in find_peaks(evidence, starts, ends, (0.0, 30.0), 3):
        assert peak < 8
        assert start < end
    assert find_peaks(np.full(5, -np.inf), starts[:5], ends[:5], (0.0, 30.0), 3) == []


def test_a_video_shorter_than_a_window_is_one_moment() -> None:
    starts, ends = windows_over(2.0, SearchOptions())
    assert find_peaks(np.array([1.0]), starts, ends, (0.0, 2.0), 5) == [(0.0, 2.0, 0)]
