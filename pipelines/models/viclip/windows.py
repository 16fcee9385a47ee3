"""Which parts of a video are looked at, and which of them are its moments. Torch-free.

Pure functions over times in seconds and numbers of frames.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError, shown
from pipelines.core.options import check_fit
from pipelines.media.video.frames import Numbers, Times, indices_at

#: Most windows of one request; their vectors are kept together.
MAX_WINDOWS = 20_000

#: What the lengths of windows and strides may be, in seconds, and how many moments are told.
WINDOW_RANGE_S = (0.2, 600.0)
STRIDE_RANGE_S = (0.05, 600.0)
MOST_MOMENTS = 100

#: Share of the windows that are taken to show what the query is not.
_BACKGROUND = 0.25

#: How far from the background to the peak the edges of a moment lie. Half-way they would lie at
#: the edges of an event of exactly known relevance; measured curves have broad feet.
_EDGE = 0.65

Values = NDArray[np.float64]


@dataclass(frozen=True)
class SearchOptions:
    """How a video is searched.

    Attributes:
        window_s: length of the parts that are compared with the query, in seconds.
        stride_s: from the start of one part to that of the next.
        top_k: most moments of one video.
        fit: how frames are made square, see `framing.Fit`; "" for the model's own way.

    Raises:
        InputError: a value is out of its range, or parts of the video would not be looked at.
    """

    window_s: float = 4.0
    stride_s: float = 1.0
    top_k: int = 5
    fit: str = ""

    def __post_init__(self) -> None:
        """Check the ranges."""
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


def check_number(value: Any, name: str, low: float, high: float, *, unit: str = "") -> float:
    """Return `value` as a number.

    Raises:
        InputError: it is none, or out of its range.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # a number of 400 digits is no float, nor is nan
        given = shown(value)
        raise InputError(
            "{name} must be a number within {low:g}..{high:g}{unit} but got {given}.",
            name=name,
            low=low,
            high=high,
            unit=unit,
            given=given,
        )
    return float(value)


def clip_indices(
    times_s: Times, starts_s: Values, ends_s: Values, num_frames: int
) -> NDArray[np.int64]:
    """Return the frames that stand for parts of a video.

    Each part is cut into `num_frames` equal pieces; the frame on show in the middle of a piece
    stands for it. A part with fewer frames has some more than once.

    Args:
        times_s: when each frame appears, ascending.
        starts_s: (N,) starts of the parts.
        ends_s: (N,) their ends.
        num_frames: frames that the model reads.

    Returns:
        (N, num_frames) frame numbers, ascending in each row.
    """
    shares = (np.arange(num_frames) + 0.5) / num_frames
    moments = starts_s[:, None] + shares[None, :] * (ends_s - starts_s)[:, None]
    found: Numbers = indices_at(times_s, moments.ravel())
    return found.reshape(len(starts_s), num_frames)


def windows_over(duration_s: float, options: SearchOptions) -> tuple[Values, Values]:
    """Return starts and ends, (N,) each, of the windows over a whole video; at least one.

    The last one ends with the video; one shorter than a window is one window.

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
    """Check that the windows of several videos are not too many together.

    Raises:
        InputError: they are.
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
    """Return the moments at which a curve of relevance has its peaks; none overlaps another.

    Windows overlap, so one event lifts many of them. From each peak on, a moment takes in the
    neighbours that are relevant by about two thirds of the way from the background (a low
    quantile of the curve) to the peak; between two windows the curve is taken for a straight line.
    A window over the edge of an event that is longer than
    a window shows half of it, so the centres of such windows are about the edges of the event.

    Args:
        evidence: (N,) relevance of each window; -inf where it could not be read.
        starts_s: (N,) starts of the windows, ascending.
        ends_s: (N,) their ends.
        edges_s: start and end of the video.
        top_k: most moments.

    Returns:
        (start, end, number of the best window) of each moment, best first.
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
        if taken[peak] or not _is_highest_nearby(evidence, centres, peak, ends_s - starts_s):
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
    """Return the first and the last window about a peak that reach a level and are not taken."""
    first = last = peak
    while first > 0 and not taken[first - 1] and evidence[first - 1] >= level:
        first -= 1
    while last + 1 < len(taken) and not taken[last + 1] and evidence[last + 1] >= level:
        last += 1
    return first, last


def _beside(
    moments: list[tuple[float, float, int]], peak: int, start: float, end: float
) -> tuple[float, float]:
    """Return start and end of the moment of a peak without what other moments have of it."""
    for other_start, other_end, other_peak in moments:
        if other_peak < peak:
            start = max(start, other_end)
        else:
            end = min(end, other_start)
    return start, end


def _is_highest_nearby(evidence: Values, centres: Values, peak: int, lengths: Values) -> bool:
    """Whether no window that shares half of its time with this one is more relevant."""
    near = np.abs(centres - centres[peak]) <= lengths[peak] / 2 + 1e-9
    return bool(evidence[peak] >= evidence[near].max())


def _edge(evidence: Values, centres: Values, inside: int, outside: int, level: float) -> float:
    """Return when the curve crosses a level between two neighbours, one inside the moment.

    Half-way, where it does not: the other one could not be read, or is of another moment, or the
    peak lies below the background.
    """
    step = centres[outside] - centres[inside]
    if not -np.inf < evidence[outside] < level < evidence[inside]:
        return float(centres[inside] + step / 2)
    share = (evidence[inside] - level) / (evidence[inside] - evidence[outside])
    return float(centres[inside] + share * step)
