"""Windows over a video, and the peaks of their relevance."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError, shown
from pipelines.core.options import check_fit
from pipelines.media.video.frames import Numbers, Times, indices_at

#: Most windows of one request; their vectors are in memory together.
MAX_WINDOWS = 20_000

#: Ranges of window and stride in seconds, and most moments of a video.
WINDOW_RANGE_S = (0.2, 600.0)
STRIDE_RANGE_S = (0.05, 600.0)
MOST_MOMENTS = 100

#: Quantile of the curve that counts as background.
_BACKGROUND = 0.25

#: Level of a moment's edges between background (0) and peak (1). For an ideal curve it would be
#: 0.5; measured curves have wide bases.
_EDGE = 0.65

Values = NDArray[np.float64]


@dataclass(frozen=True)
class SearchOptions:
    """Length and stride of windows in seconds, most moments, and a `SquareFit`, "" by default.

    Raises:
        InputError: a value is out of its range, or the stride is longer than the window.
    """

    window_s: float = 4.0
    stride_s: float = 1.0
    top_k: int = 5
    fit: str = ""

    def __post_init__(self) -> None:
        check_number(self.window_s, "window_s", *WINDOW_RANGE_S, unit=" s")
        check_number(self.stride_s, "stride_s", *STRIDE_RANGE_S, unit=" s")
        check_number(self.top_k, "top_k", 1, MOST_MOMENTS)
        check_fit(self.fit)
        if self.top_k != int(self.top_k):
            raise InputError("top_k must be a whole number but got {given:g}.", given=self.top_k)
        if self.stride_s > self.window_s:
            raise InputError(
                "stride_s ({stride:g} s) must not be longer than window_s ({window:g} s), or "
                "parts of the video are never looked at. Make the stride smaller.",
                stride=self.stride_s,
                window=self.window_s,
            )


def check_number(value: Any, name: str, low: float, high: float, *, unit: str = "") -> None:
    """Check that `value` is a number within a range.

    Raises:
        InputError: not a number within the range.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # a number of 400 digits is no float, nor is nan
        raise InputError(
            "{name} must be a number within {low:g}..{high:g}{unit} but got {given}.",
            name=name,
            low=low,
            high=high,
            unit=unit,
            given=shown(value),
        )


def clip_indices(
    times_s: Times, starts_s: Values, ends_s: Values, num_frames: int
) -> NDArray[np.int64]:
    """Return the frames, (N, num_frames) numbers, of windows from (N,) starts to ends.

    Each window is divided into `num_frames` equal pieces, represented by the frame displayed in
    the middle of the piece. Short windows repeat frames. `times_s`, the frames' times, ascends.
    """
    shares = (np.arange(num_frames) + 0.5) / num_frames
    moments = starts_s[:, None] + shares[None, :] * (ends_s - starts_s)[:, None]
    found: Numbers = indices_at(times_s, moments.ravel())
    return found.reshape(len(starts_s), num_frames)


def windows_over(duration_s: float, options: SearchOptions) -> tuple[Values, Values]:
    """Return starts and ends, (N,) each, of the windows over a whole video; at least one.

    The last window ends with the video. A video shorter than a window is one window.

    Raises:
        InputError: there would be more than `MAX_WINDOWS`.
    """
    window, stride = options.window_s, options.stride_s
    span = duration_s - window
    if span <= 0:
        return np.zeros(1), np.array([duration_s])
    count = ceil(span / stride - 1e-6) + 1
    if count > MAX_WINDOWS:
        least = ceil(span / (MAX_WINDOWS - 1) * 100) / 100
        raise InputError(
            "A video of {seconds:.0f} s has {count:,} windows at a stride of {stride:g} s; "
            "the limit is {limit:,}. Choose a stride of {least:g} s or more.",
            seconds=duration_s,
            count=count,
            stride=stride,
            limit=MAX_WINDOWS,
            least=least,
        )
    starts = np.minimum(np.arange(count) * stride, span)
    return starts, starts + window


def check_total(num_windows: int, options: SearchOptions) -> None:
    """Check the total number of windows of several videos.

    Raises:
        InputError: more than `MAX_WINDOWS`.
    """
    if num_windows > MAX_WINDOWS:
        raise InputError(
            "These videos have {count:,} windows together at a stride of {stride:g} s; the "
            "limit is {limit:,}. Choose a longer stride, or fewer videos.",
            count=num_windows,
            stride=options.stride_s,
            limit=MAX_WINDOWS,
        )


def find_peaks(
    evidence: Values, starts_s: Values, ends_s: Values, edges_s: tuple[float, float], top_k: int
) -> list[tuple[float, float, int]]:
    """Return (start, end, best window) of the moments at a relevance curve's peaks, best first.

    Windows overlap, so one event lifts several of them. A moment extends from its peak to the
    neighbours above a level about two thirds of the way from the background (a low quantile) to the
    peak, with linear interpolation between windows. A window centred on the edge of a longer event
    shows half of it. Moments do not overlap; there are at most `top_k`.

    `evidence` is (N,), the relevance of each window, -inf for an unreadable one; starts, which
    ascend, and ends are (N,). `edges_s` are start and end of the video.
    """
    readable = np.isfinite(evidence)
    if not readable.any():
        return []
    background = float(np.quantile(evidence[readable], _BACKGROUND))
    centres = (starts_s + ends_s) / 2
    taken = ~readable
    moments: list[tuple[float, float, int]] = []
    for peak in np.argsort(-evidence, kind="stable").tolist():
        if len(moments) == top_k:
            break
        nearby = np.abs(centres - centres[peak]) <= (ends_s - starts_s)[peak] / 2 + 1e-9
        if taken[peak] or evidence[peak] < evidence[nearby].max():
            continue
        level = background + _EDGE * (evidence[peak] - background)
        first, last = _around(evidence, taken, peak, level)
        taken[first : last + 1] = True
        start = _edge(evidence, centres, first, first - 1, level) if first else edges_s[0]
        end = edges_s[1]
        if last + 1 < len(taken):
            end = _edge(evidence, centres, last, last + 1, level)
        moments.append((*_beside(moments, peak, start, end), peak))
    return moments


def _around(evidence: Values, taken: NDArray[np.bool_], peak: int, level: float) -> tuple[int, int]:
    """Return the first and last free window around a peak that reach a level."""
    first = last = peak
    while first > 0 and not taken[first - 1] and evidence[first - 1] >= level:
        first -= 1
    while last + 1 < len(taken) and not taken[last + 1] and evidence[last + 1] >= level:
        last += 1
    return first, last


def _beside(
    moments: list[tuple[float, float, int]], peak: int, start: float, end: float
) -> tuple[float, float]:
    """Return start and end of a peak's moment without its overlap with other moments."""
    for other_start, other_end, other_peak in moments:
        if other_peak < peak:
            start = max(start, other_end)
        else:
            end = min(end, other_start)
    return start, end


def _edge(evidence: Values, centres: Values, inside: int, outside: int, level: float) -> float:
    """Return when the curve crosses a level between two neighbours, one inside the moment.

    Half-way if it does not: the outer window is unreadable or belongs to another moment, or the
    peak is below the background.
    """
    step = centres[outside] - centres[inside]
    if not -np.inf < evidence[outside] < level < evidence[inside]:
        return float(centres[inside] + step / 2)
    share = (evidence[inside] - level) / (evidence[inside] - evidence[outside])
    return float(centres[inside] + share * step)
