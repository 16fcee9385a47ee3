"""Frames -> what the vision tower reads: chosen, fitted to the square, normalised."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.core.errors import InputError, shown
from pipelines.core.options import SquareFit

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


ChannelOrder = Literal["rgb", "bgr"]

#: ImageNet's statistics, RGB. CLIP's own, which several wrappers use, depart from the training.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

#: The colour of letterbox bars: the mean, which normalises to almost zero.
BAR_COLOUR = tuple(round(255 * mean) for mean in IMAGE_MEAN)


def stride_indices(num_available: int, num_frames: int = 8) -> list[int]:
    """Choose frames as the reference demo does: from the first on, at a whole stride.

    The tail is left out, of 15 frames nearly half; use it to reproduce published demo outputs.

    Source: OpenGVLab/InternVideo@3965eef Data/InternVid/viclip, Apache-2.0; differs: a clear
    error in place of a failed assertion.

    Raises:
        InputError: there are fewer frames than `num_frames`.
    """
    if num_available < num_frames:
        raise InputError(
            f"The video has {num_available} frames; choosing at a whole stride needs at least "
            f"{num_frames}. Use the spread over the whole range instead."
        )
    step = num_available // num_frames
    return [step * position for position in range(num_frames)]


def spread_indices(num_available: int, num_frames: int = 8) -> list[int]:
    """Choose frames over the whole range: the middle of each of `num_frames` equal parts.

    A video of fewer frames gives all of them, the last one repeated.

    Source: OpenGVLab/InternVideo@3965eef InternVideo1/Pretrain/ViCLIP, Apache-2.0 (how its
    zero-shot evaluation samples); differs: whole numbers throughout.

    Raises:
        InputError: there is no frame.
    """
    if num_available < 1:
        raise InputError("The video has no frame that can be read. Choose another part or file.")
    if num_available < num_frames:
        return [min(position, num_available - 1) for position in range(num_frames)]
    edges = [num_available * part // num_frames for part in range(num_frames + 1)]
    return [(start + end - 1) // 2 for start, end in zip(edges, edges[1:], strict=False)]


def fit_frames(frames: Pixels, size: int, fit: SquareFit = "squash") -> Pixels:
    """Bring frames to a square.

    Args:
        frames: (T, H, W, 3) uint8.
        size: side of the square, in pixels.
        fit: how; see `framing.SquareFit`.

    Returns:
        (T, size, size, 3) uint8, in the channel order given; the bars are RGB.

    Raises:
        InputError: `fit` is unknown.
    """
    height, width = frames.shape[1:3]
    if fit == "squash":
        return resize_like_opencv(frames, size, size)
    if fit == "centre-crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize_like_opencv(frames[:, top : top + side, left : left + side], size, size)
    if fit == "letterbox":
        scale = size / max(height, width)
        inner = [max(1, round(length * scale)) for length in (height, width)]
        top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
        canvas = np.empty((len(frames), size, size, 3), np.uint8)
        canvas[:] = BAR_COLOUR
        resized = resize_like_opencv(frames, inner[0], inner[1])
        canvas[:, top : top + inner[0], left : left + inner[1]] = resized
        return canvas
    raise InputError(f"fit must be one of {', '.join(get_args(SquareFit))} but got {shown(fit)}.")


def normalise_frames(frames: Pixels) -> torch.Tensor:
    """Return (T, 3, H, W) float32 for (T, H, W, 3) uint8 RGB: (x / 255 - mean) / std.

    Computed in float64 for each of the 256 values and looked up, so rounded once.
    """
    levels = np.arange(256, dtype=np.float64)[:, None] / 255
    table = ((levels - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)).astype(np.float32)  # (256, 3)
    values = np.stack([table[frames[..., channel], channel] for channel in range(3)], axis=1)
    return torch.from_numpy(values)


@dataclass(frozen=True)
class ViClipProcessor:
    """How a model's frames are prepared.

    Attributes:
        image_size: side of the frames that the model reads, in pixels.
        num_frames: frames that it reads.
        fit: as `fit_frames` takes it.
    """

    image_size: int = 224
    num_frames: int = 8
    fit: SquareFit = "squash"

    def pixel_values(self, frames: Pixels, channel_order: ChannelOrder = "rgb") -> torch.Tensor:
        """Prepare the frames of one video.

        Args:
            frames: (T, H, W, 3) uint8. T frames other than the model's number are spread over
                it with `spread_indices`; one frame stays one, a still picture.
            channel_order: "rgb" as PyAV, decord and Pillow give it; "bgr" as OpenCV does.

        Returns:
            (num_frames or 1, 3, image_size, image_size) float32, normalised.

        Raises:
            InputError: the frames are not what they should be.
        """
        if channel_order not in get_args(ChannelOrder):
            raise InputError(f"channel_order must be rgb or bgr but got {channel_order!r}.")
        shape, kind = np.shape(frames), getattr(frames, "dtype", None)
        if kind != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise InputError(
                f"frames must be (T, H, W, 3) of uint8, none of them 0, but got {shape} of {kind}."
            )
        if len(frames) not in (1, self.num_frames):
            frames = frames[spread_indices(len(frames), self.num_frames)]
        if channel_order == "bgr":
            frames = frames[..., ::-1]
        return normalise_frames(fit_frames(frames, self.image_size, self.fit))
