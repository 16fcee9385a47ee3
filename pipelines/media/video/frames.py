"""Which frames of a video to read: pure functions over frame numbers and times."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees, isfinite
from typing import Any, Literal

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines.core.errors import InputError
from pipelines.core.messages import Message

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
        raise InputError("The number of frames must be 1 or more but got {given}.", given=count)
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


Pixels = NDArray[np.uint8]
Fit = Literal["squash", "cover", "contain"]


@dataclass(frozen=True)
class Rotation:
    """What makes a stored frame upright: transposed first, then flipped.

    Attributes:
        transposed: whether rows become columns.
        flip_x: whether left and right change places, after that.
        flip_y: whether top and bottom change places, after that.
        rotation_deg: the turn in degrees clockwise: 0, 90, 180 or 270.
    """

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False
    rotation_deg: int = 0

    @classmethod
    def of(cls, frame: Any) -> "Rotation":
        """Read the display matrix of a decoded frame; without one it lies as it should."""
        for data in frame.side_data:
            if data.type.name == "DISPLAYMATRIX" and len(bytes(data)) >= 36:
                a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
                return cls.of_matrix(a, b, c, d)
        return cls()

    @classmethod
    def of_matrix(cls, a: float, b: float, c: float, d: float) -> "Rotation":
        """Return the nearest turn to x' = a x + c y, y' = b x + d y, with y downwards."""
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
    """How a frame fills the pixels asked for; all sizes are upright (height, width).

    Attributes:
        size: pixels asked for.
        scaled: what the whole frame is scaled to.
        turn: what makes it upright.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    turn: Rotation

    @classmethod
    def fitting(
        cls, source: tuple[int, int], size: tuple[int, int] | None, fit: Fit, turn: Rotation
    ) -> "Framing":
        """Plan how an upright `source` (height, width) fills `size`; None keeps its own size.

        "squash" changes the proportions, "cover" cuts the longer sides off evenly, "contain"
        adds black bars.
        """
        if size is None or fit == "squash":
            return cls(size or source, size or source, turn)
        ratios = [wanted / has for wanted, has in zip(size, source, strict=True)]
        if fit == "cover":
            scale = max(ratios)
            return cls(size, _at_least(source, scale, size), turn)
        scale = min(ratios)
        height, width = (max(1, round(has * scale)) for has in source)
        return cls(size, (min(height, size[0]), min(width, size[1])), turn)

    def paint(self, frame: Any, reformatter: VideoReformatter, target: Pixels) -> None:
        """Scale, turn and cut one decoded frame into `target`, zeros of `size` (H, W, 3)."""
        height, width = self.scaled[::-1] if self.turn.transposed else self.scaled
        made = reformatter.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1
        )
        stored: Any = made.to_ndarray()
        upright = self.turn.apply(stored)
        into: list[slice] = []
        part: list[slice] = []
        for wanted, has in zip(self.size, self.scaled, strict=True):
            length = min(wanted, has)
            into.append(slice((wanted - length) // 2, (wanted - length) // 2 + length))
            part.append(slice((has - length) // 2, (has - length) // 2 + length))
        target[tuple(into)] = upright[tuple(part)]


def display_size(width: int, height: int, aspect: float, turn: Rotation) -> tuple[int, int]:
    """Return upright (height, width) of stored pixels of a shape `aspect` (width / height)."""
    usable = aspect if 0.1 <= aspect <= 10 else 1.0
    wide = max(1, round(width * usable))
    return (wide, height) if turn.transposed else (height, wide)


def _at_least(source: tuple[int, int], scale: float, size: tuple[int, int]) -> tuple[int, int]:
    height, width = (round(has * scale) for has in source)
    return max(height, size[0]), max(width, size[1])


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

    Attributes:
        start_s: when the first frame appears on a player's clock; often 0.0.
        duration_s: from the first frame to the end of the last.
        num_frames: frames that decoding the whole file gives.
        average_fps: frames per second, on average; 0.0 where there is no second frame.
        rotation_deg: how far stored frames are turned clockwise to be upright: 0, 90, 180, 270.
        width_px: width of an upright frame as it is displayed.
        height_px: height of the same.
        codec: the decoder's name, such as "h264".
        variable_rate: whether the time between two frames varies.
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

    @property
    def end_s(self) -> float:
        """When the last frame ends on a player's clock."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of a video.

    Attributes:
        pixels: upright frames (N, H, W, 3), uint8, RGB, in the order asked for, without the lost.
        indices: number of each frame (N,).
        times_s: when each appears on a player's clock (N,).
        lost: numbers of the frames that were asked for and cannot be read, ascending.
        num_asked: how many different frames were asked for.
    """

    pixels: Pixels
    indices: Numbers
    times_s: Times
    lost: tuple[int, ...]
    num_asked: int

    @property
    def num_lost(self) -> int:
        """How many different frames were asked for and cannot be read."""
        return len(self.lost)

    @property
    def highest(self) -> int:
        """The highest number that was asked for."""
        return max(int(self.indices.max(initial=-1)), *self.lost, -1)

    @property
    def notice(self) -> str:
        """One sentence for a person where frames are lost, else ""."""
        if not self.lost:
            return ""
        return Message(
            "{lost} of {count} frames could not be read because the video is damaged "
            "there; the others are used.",
            lost=self.num_lost,
            count=self.num_asked,
        )
