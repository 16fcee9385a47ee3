"""From a decoded frame to upright RGB pixels of the size that was asked for."""

from dataclasses import dataclass
from math import atan2, degrees
from typing import Any, Literal

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Fit = Literal["squash", "cover", "contain"]


@dataclass(frozen=True)
class Turn:
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
    def of(cls, frame: Any) -> "Turn":
        """Read the display matrix of a decoded frame; without one it lies as it should."""
        for data in frame.side_data:
            if data.type.name == "DISPLAYMATRIX" and len(bytes(data)) >= 36:
                a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
                return cls.of_matrix(a, b, c, d)
        return cls()

    @classmethod
    def of_matrix(cls, a: float, b: float, c: float, d: float) -> "Turn":
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
    turn: Turn

    @classmethod
    def fitting(
        cls, source: tuple[int, int], size: tuple[int, int] | None, fit: Fit, turn: Turn
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


def display_size(width: int, height: int, aspect: float, turn: Turn) -> tuple[int, int]:
    """Return upright (height, width) of stored pixels of a shape `aspect` (width / height)."""
    usable = aspect if 0.1 <= aspect <= 10 else 1.0
    wide = max(1, round(width * usable))
    return (wide, height) if turn.transposed else (height, wide)


def _at_least(source: tuple[int, int], scale: float, size: tuple[int, int]) -> tuple[int, int]:
    height, width = (round(has * scale) for has in source)
    return max(height, size[0]), max(width, size[1])
