"""Which frames of a video to read: pure functions over frame numbers and times."""

from collections.abc import Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from pipelines.core.errors import InputError

Numbers = NDArray[np.int64]
Times = NDArray[np.float64]


def spread_indices(num_frames: int, count: int) -> Numbers:
    """Return `count` frame numbers spread evenly, each in the middle of its part of the video.

    A video of fewer frames gives every frame once.

    Args:
        num_frames: frames there are.
        count: frames wanted.

    Returns:
        Ascending, distinct frame numbers, (min(count, num_frames),).

    Raises:
        InputError: `count` or `num_frames` is less than 1.
    """
    if count < 1:
        raise InputError(f"The number of frames must be 1 or more but got {count}.")
    if num_frames < 1:
        raise InputError("There are no frames to choose from. Choose a longer part of the video.")
    if count >= num_frames:
        return np.arange(num_frames, dtype=np.int64)
    return (np.arange(count, dtype=np.int64) * 2 + 1) * num_frames // (2 * count)


def indices_between(
    times_s: Sequence[float] | Times, start_s: float = 0.0, end_s: float = 0.0
) -> Numbers:
    """Return the numbers of the frames that are on show between two times.

    The frame shown at `start_s` began before it and is part of the answer; so no part of a video,
    however short, is without a frame.

    Args:
        times_s: when each frame appears, ascending.
        start_s: start of the part.
        end_s: end of the part, not included; 0.0 means the end of the video.

    Returns:
        Ascending frame numbers, at least one.

    Raises:
        InputError: a time is negative or no number, or the start is not before the end.
    """
    times = np.asarray(times_s, np.float64)
    if not (isfinite(start_s) and isfinite(end_s)) or start_s < 0 or end_s < 0:
        raise InputError(
            "Start and end must be times in seconds, 0 or more, "
            f"but got start {start_s:g} and end {end_s:g}. Correct them and try again."
        )
    if end_s and start_s >= end_s:
        raise InputError(
            f"The start ({start_s:g} s) must come before the end ({end_s:g} s). "
            "Make the start smaller, or set the end to 0 for the end of the video."
        )
    if not len(times):
        raise InputError("There are no frames to choose from. Choose another video.")
    if start_s > 0 and start_s > float(times[-1]) + usual_step_s(times):
        raise InputError(
            f"The start ({start_s:g} s) lies after the end of the video "
            f"({float(times[-1]) + usual_step_s(times):.2f} s). Choose an earlier start."
        )
    first = indices_at(times, [start_s])[0]
    last = len(times) if not end_s else max(first + 1, int(np.searchsorted(times, end_s - 1e-9)))
    return np.arange(first, last, dtype=np.int64)


def indices_at(times_s: Sequence[float] | Times, moments_s: Sequence[float] | Times) -> Numbers:
    """Return the number of the frame on show at each moment; before the first one, the first.

    Args:
        times_s: when each frame appears, ascending, at least one.
        moments_s: the moments; one in the last microsecond before a frame belongs to that frame.
    """
    after = np.searchsorted(np.asarray(times_s), np.asarray(moments_s) + 1e-6, side="right")
    found: Numbers = np.maximum(after - 1, 0).astype(np.int64)
    return found


def usual_step_s(times_s: Sequence[float] | Times) -> float:
    """Return the median time between two frames, 0.0 where there is only one frame."""
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
