"""Choice, resizing and normalisation of frames."""

from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.core.errors import InputError, shown
from pipelines.core.options import SquareFit

Pixels = NDArray[np.uint8]

#: ImageNet's statistics, RGB, as in training; CLIP's own, which several wrappers use, differ.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

#: The colour of letterbox bars: the mean, which normalises to almost zero.
BAR_COLOUR = tuple(round(255 * mean) for mean in IMAGE_MEAN)


def spread_indices(num_available: int, num_frames: int = 8) -> list[int]:
    """Choose frames over the whole range: the middle of each of `num_frames` equal parts.

    A shorter video gives all frames, with the last one repeated.

    Source: OpenGVLab/InternVideo@3965eef InternVideo1/Pretrain/ViCLIP, Apache-2.0 (the
    sampling of its zero-shot evaluation); differs: integer arithmetic.

    Raises:
        InputError: there is no frame.
    """
    if num_available < 1:
        raise InputError("The video has no frame that can be read. Choose another part or file.")
    if num_available < num_frames:
        return [min(position, num_available - 1) for position in range(num_frames)]
    edges = [num_available * part // num_frames for part in range(num_frames + 1)]
    return [(start + end - 1) // 2 for start, end in zip(edges, edges[1:], strict=False)]


def resize_frames(frames: Pixels, height: int, width: int) -> Pixels:
    """Return (T, height, width, 3) uint8 for (T, H, W, 3) uint8.

    OpenCV's bilinear interpolation without antialiasing, as in training; OpenCV resizes images
    of this size in the calling thread.
    """
    resized = np.empty((len(frames), height, width, 3), np.uint8)
    for frame, target in zip(frames, resized, strict=True):
        cv2.resize(frame, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


def fit_frames(frames: Pixels, size: int, fit: SquareFit = "squash") -> Pixels:
    """Return (T, size, size, 3) uint8 RGB for (T, H, W, 3) uint8 RGB.

    Raises:
        InputError: `fit` is unknown.
    """
    height, width = frames.shape[1:3]
    if fit == "squash":
        return resize_frames(frames, size, size)
    if fit == "centre-crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize_frames(frames[:, top : top + side, left : left + side], size, size)
    if fit == "letterbox":
        scale = size / max(height, width)
        inner = [max(1, round(length * scale)) for length in (height, width)]
        top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
        canvas = np.empty((len(frames), size, size, 3), np.uint8)
        canvas[:] = BAR_COLOUR
        resized = resize_frames(frames, inner[0], inner[1])
        canvas[:, top : top + inner[0], left : left + inner[1]] = resized
        return canvas
    raise InputError(
        "fit must be one of {choices} but got {given}.",
        choices=", ".join(get_args(SquareFit)),
        given=shown(fit),
    )


def normalise_frames(frames: Pixels) -> torch.Tensor:
    """Return (T, 3, H, W) float32 for (T, H, W, 3) uint8 RGB: (x / 255 - mean) / std.

    Looked up in a table of 256 values computed in float64, so rounded only once.
    """
    levels = np.arange(256, dtype=np.float64)[:, None] / 255
    table = ((levels - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)).astype(np.float32)  # (256, 3)
    values = np.stack([table[frames[..., channel], channel] for channel in range(3)], axis=1)
    return torch.from_numpy(values)


@dataclass(frozen=True)
class ViClipProcessor:
    """Frame preprocessing of one model: side and number of its input frames, and the fit."""

    image_size: int = 224
    num_frames: int = 8
    fit: SquareFit = "squash"

    def pixel_values(self, frames: Pixels) -> torch.Tensor:
        """Return (num_frames or 1, 3, image_size, image_size) float32 of a video's frames.

        `frames` is (T, H, W, 3) uint8 RGB. If T differs from `num_frames`, `spread_indices` chooses
        among them; a single frame stays single, a still image.

        Raises:
            InputError: the frames have another shape or dtype.
        """
        shape, kind = np.shape(frames), getattr(frames, "dtype", None)
        if kind != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise InputError(
                "frames must be (T, H, W, 3) of uint8, none of them 0, but got {shape} of {kind}.",
                shape=shape,
                kind=kind,
            )
        if len(frames) not in (1, self.num_frames):
            frames = frames[spread_indices(len(frames), self.num_frames)]
        return normalise_frames(fit_frames(frames, self.image_size, self.fit))
