"""Resizing as OpenCV does it, bit for bit, without OpenCV. Torch-free.

The model's training and its reference demo resize with OpenCV's INTER_LINEAR on uint8, which
computes in whole numbers; a bilinear filter in floating point differs by one grey level on every
fifth value.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

#: Fractions are multiples of 1/2048.
_ONE = np.float32(2048)


@dataclass(frozen=True)
class _Axis:
    """Of each target position: its two source positions and their weights, which add to 2048."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    first_weight: NDArray[np.int32]
    second_weight: NDArray[np.int32]


def resize_like_opencv(frames: Pixels, height: int, width: int) -> Pixels:
    """Return (T, height, width, 3) uint8 for (T, H, W, 3) uint8.

    No antialiasing, whatever the factor: shrinking picks single neighbours, as the model was
    trained.

    Source: behaviour of opencv/opencv 4.x `cv::resize`, INTER_LINEAR on 8 bits, Apache-2.0;
    described by rule and written anew; differs: nothing in the values. OpenCV's own branch
    for halving, and its different borders for rows and columns, come to the same values.
    """
    source_height, source_width = frames.shape[1:3]
    if (source_height, source_width) == (height, width):
        return frames.copy()
    down, across = _axis(source_height, height), _axis(source_width, width)
    upper = _mix_columns(frames[:, down.first], across)
    lower = _mix_columns(frames[:, down.second], across)
    weights = (down.first_weight[:, None, None], down.second_weight[:, None, None])
    total = ((weights[0] * (upper >> 4)) >> 16) + ((weights[1] * (lower >> 4)) >> 16)
    result: Pixels = ((total + 2) >> 2).astype(np.uint8)
    return result


def _mix_columns(rows: Pixels, axis: _Axis) -> NDArray[np.int32]:
    """Return (T, rows, width, 3) int32, 2048 times the values."""
    left = rows[:, :, axis.first].astype(np.int32) * axis.first_weight[:, None]
    return left + rows[:, :, axis.second].astype(np.int32) * axis.second_weight[:, None]


def _axis(source: int, target: int) -> _Axis:
    """Lay `target` positions over `source`; outside, both neighbours are the outermost one."""
    position = ((np.arange(target) + 0.5) * source / target - 0.5).astype(np.float32)
    first = np.floor(position)
    fraction = position - first
    start = first.astype(np.intp)
    return _Axis(
        first=start.clip(0, source - 1),
        second=(start + 1).clip(0, source - 1),
        first_weight=np.rint(_ONE * (np.float32(1) - fraction)).astype(np.int32),
        second_weight=np.rint(_ONE * fraction).astype(np.int32),
    )
