"""Selection and geometry of video frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees, isfinite
from typing import Any, Literal

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipelines.core.errors import InputError
from pipelines.core.messages import Message
from pipelines.media.video.colours import to_rgb

Numbers = NDArray[np.int64]
Times = NDArray[np.float64]


def spread_indices(num_frames: int, count: int) -> Numbers:
    """Return the middle frames of `count` equal parts of a video: (min(count, num_frames),).

    The numbers ascend and are distinct.

    Raises:
        InputError: `count` or `num_frames` is less than 1.
    """
    if count < 1:
        raise InputError("The number of frames must be 1 or more but got {given}.", given=count)
    if num_frames < 1:
        raise InputError("There are no frames to choose from. Choose a longer part of the video.")
    if count >= num_frames:
        return np.arange(num_frames, dtype=np.int64)
    return (np.arange(count, dtype=np.int64) * 2 + 1) * num_frames // (2 * count)


def indices_between(
    times_s: Sequence[float] | Times, start_s: float = 0.0, end_s: float = 0.0
) -> Numbers:
    """Return the ascending numbers, at least one, of the frames shown between two times.

    `times_s` are the ascending times of all frames. The frame shown at the start is included; the
    end is excluded, and 0.0 is the end of the video.

    Raises:
        InputError: a time is negative, not finite or after the video, or start_s >= end_s.
    """
    times = np.asarray(times_s, np.float64)
    if not (isfinite(start_s) and isfinite(end_s)) or start_s < 0 or end_s < 0:
        raise InputError(
            "Start and end must be times in seconds, 0 or more, but got start {start:g} and "
            "end {end:g}. Correct them and try again.",
            start=start_s,
            end=end_s,
        )
    if end_s and start_s >= end_s:
        raise InputError(
            "The start ({start:g} s) must come before the end ({end:g} s). Make the start "
            "smaller, or set the end to 0 for the end of the video.",
            start=start_s,
            end=end_s,
        )
    if not len(times):
        raise InputError("There are no frames to choose from. Choose another video.")
    if start_s > 0 and start_s > float(times[-1]) + usual_step_s(times):
        raise InputError(
            "The start ({start:g} s) lies after the end of the video ({end:.2f} s). Choose an "
            "earlier start.",
            start=start_s,
            end=float(times[-1]) + usual_step_s(times),
        )
    first = indices_at(times, [start_s])[0]
    last = len(times) if not end_s else max(first + 1, int(np.searchsorted(times, end_s - 1e-9)))
    return np.arange(first, last, dtype=np.int64)


def indices_at(times_s: Sequence[float] | Times, moments_s: Sequence[float] | Times) -> Numbers:
    """Return the number of the frame shown at each moment; before the first frame, the first.

    `times_s` are the ascending times of all frames, at least one; moments are rounded up by 1e-6 s.
    """
    after = np.searchsorted(np.asarray(times_s), np.asarray(moments_s) + 1e-6, side="right")
    indices: Numbers = np.maximum(after - 1, 0).astype(np.int64)
    return indices


def usual_step_s(times_s: Sequence[float] | Times) -> float:
    """Return the median time between two frames, 0.0 for a single frame."""
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0


Pixels = NDArray[np.uint8]
Fit = Literal["squash", "cover", "contain"]


@dataclass(frozen=True)
class Rotation:
    """Transposition, then flips, that make a stored frame upright; `rotation_deg` is clockwise."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False
    rotation_deg: int = 0

    @classmethod
    def of(cls, frame: Any) -> "Rotation":
        """Return the rotation of a decoded frame's display matrix, if it has one."""
        for data in frame.side_data:
            if data.type.name == "DISPLAYMATRIX" and len(bytes(data)) >= 36:
                a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
                return cls.of_matrix(a, b, c, d)
        return cls()

    @classmethod
    def of_matrix(cls, a: float, b: float, c: float, d: float) -> "Rotation":
        """Return the nearest rotation to x' = a x + c y, y' = b x + d y, with y downwards."""
        rotation = round(degrees(atan2(b, a)) / 90) * 90 % 360
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0, rotation)
        return cls(True, c < 0, b < 0, rotation)

    def apply(self, pixels: Pixels) -> Pixels:
        """Return a view (H, W, 3) of the upright frame."""
        upright = pixels.transpose(1, 0, 2) if self.transposed else pixels
        return upright[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


@dataclass(frozen=True)
class Framing:
    """Scaling of frames to a requested size; all sizes are upright (height, width).

    `scaled` is the size before cropping or padding; `rotation` makes the frame upright.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    rotation: Rotation

    @classmethod
    def fitting(
        cls, source: tuple[int, int], size: tuple[int, int] | None, fit: Fit, rotation: Rotation
    ) -> "Framing":
        """Return the framing of an upright `source` (height, width); None keeps its size.

        "squash" changes the aspect ratio, "cover" crops evenly, "contain" adds black bars.
        """
        if size is None or fit == "squash":
            return cls(size or source, size or source, rotation)
        ratios = [wanted / actual for wanted, actual in zip(size, source, strict=True)]
        scale = max(ratios) if fit == "cover" else min(ratios)
        height, width = (max(1, round(actual * scale)) for actual in source)
        limit = max if fit == "cover" else min
        return cls(size, (limit(height, size[0]), limit(width, size[1])), rotation)

    def paint(self, frame: Any, reformatter: VideoReformatter, target: Pixels) -> None:
        """Scale, rotate and crop a decoded frame into `target`, zeros (H, W, 3) of `size`."""
        height, width = self.scaled[::-1] if self.rotation.transposed else self.scaled
        upright = self.rotation.apply(to_rgb(frame, reformatter, width, height))
        into: list[slice] = []
        part: list[slice] = []
        for wanted, actual in zip(self.size, self.scaled, strict=True):
            length = min(wanted, actual)
            into.append(slice((wanted - length) // 2, (wanted - length) // 2 + length))
            part.append(slice((actual - length) // 2, (actual - length) // 2 + length))
        target[tuple(into)] = upright[tuple(part)]


def display_size(width: int, height: int, aspect: float, rotation: Rotation) -> tuple[int, int]:
    """Return upright (height, width) of stored pixels of a shape `aspect` (width / height)."""
    usable = aspect if 0.1 <= aspect <= 10 else 1.0
    wide = max(1, round(width * usable))
    return (wide, height) if rotation.transposed else (height, wide)


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video.

    Attributes:
        start_s: presentation time of the first frame, often 0.0.
        duration_s: time from the first frame to the end of the last.
        num_frames: number of frames in the index, including unreadable ones.
        average_fps: average frames per second; 0.0 for a single frame.
        rotation_deg: clockwise rotation that makes stored frames upright: 0, 90, 180 or 270.
        width_px: display width of an upright frame; `height_px` is its height.
        codec: name of the decoder, such as "h264".
        variable_rate: whether the time between frames varies.
        num_mended: number of frames whose time in the file was wrong and was replaced.
    """

    start_s: float
    duration_s: float
    num_frames: int
    average_fps: float
    rotation_deg: int
    width_px: int
    height_px: int
    codec: str
    variable_rate: bool
    num_mended: int = 0

    @property
    def end_s(self) -> float:
        """Time of the end of the last frame."""
        return self.start_s + self.duration_s

    @property
    def notice(self) -> str:
        """Message about mended times, "" if there are none."""
        if not self.num_mended:
            return ""
        return Message(
            "{mended} of {count} frames have a wrong time in the file; times between those of "
            "their neighbours are used.",
            mended=self.num_mended,
            count=self.num_frames,
        )


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of a video in the requested order, without unreadable ones.

    Attributes:
        pixels: upright frames (N, H, W, 3), uint8, RGB.
        indices: frame numbers (N,).
        times_s: presentation times (N,).
        lost: numbers of the requested frames that cannot be read, ascending.
        num_asked: number of distinct requested frames.
    """

    pixels: Pixels
    indices: Numbers
    times_s: Times
    lost: tuple[int, ...]
    num_asked: int

    @property
    def num_lost(self) -> int:
        """Number of requested frames that cannot be read."""
        return len(self.lost)

    @property
    def highest(self) -> int:
        """Highest requested number."""
        return max(int(self.indices.max(initial=-1)), *self.lost, -1)

    @property
    def notice(self) -> str:
        """Message about lost frames, "" if there are none."""
        if not self.lost:
            return ""
        return Message(
            "{lost} of {count} frames could not be read because the video is damaged "
            "there; the others are used.",
            lost=self.num_lost,
            count=self.num_asked,
        )
