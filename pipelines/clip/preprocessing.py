"""Image -> the pixels that a vision tower reads, from PIL alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.media.images import true_box

#: From this ratio of the sides on, only the part that the crop keeps is resized: resizing a
#: 1 x 100,000 strip to its full proportional length would take gigabytes.
EXTREME_ASPECT = 50.0


@dataclass(frozen=True)
class PixelRecipe:
    """How a model's stock image processor treats an image.

    Attributes:
        shortest_edge: the short side is brought to this, in proportion; 0: both are set.
        fixed_height: where `shortest_edge` is 0, the height that is resized to.
        fixed_width: where `shortest_edge` is 0, the width that is resized to.
        height: of the result, in pixels.
        width: of the result, in pixels.
        crop: whether the centre is cut out after resizing.
        resample: PIL's resampling filter.
        scale: factor from 0..255 to the range that `mean` and `std` are meant for.
        mean: of each channel, RGB.
        std: of each channel, RGB.
    """

    shortest_edge: int
    fixed_height: int
    fixed_width: int
    height: int
    width: int
    crop: bool
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, processor: Any) -> "PixelRecipe":
        """Read the recipe out of a stock image processor."""
        size = processor.size
        short = int(size.shortest_edge or 0)
        crop = bool(processor.do_center_crop)
        box = processor.crop_size if crop else size
        return cls(
            shortest_edge=short,
            fixed_height=int(size.height or short),
            fixed_width=int(size.width or short),
            height=int(box.height or short),
            width=int(box.width or short),
            crop=crop,
            resample=int(processor.resample),
            scale=float(processor.rescale_factor) if processor.do_rescale else 1.0,
            mean=tuple(processor.image_mean) if processor.do_normalize else (0.0,) * 3,
            std=tuple(processor.image_std) if processor.do_normalize else (1.0,) * 3,
        )

    @property
    def draft_px(self) -> int:
        """Short side, in pixels, that a JPEG must keep when it is decoded at a fraction.

        At three times the target 99.9 % of the values that the model reads are within 2 grey
        levels of those of the full picture, on photos; at twice it is up to 5 levels.
        """
        return 3 * max(self.height, self.width, self.shortest_edge)

    def resized_size(self, width: float, height: float) -> tuple[int, int]:
        """Return the (width, height) to which an image is resized before the crop."""
        if not self.shortest_edge:
            return self.fixed_width, self.fixed_height
        short, long = min(width, height), max(width, height)
        new_long = int(self.shortest_edge * long / short)
        if width <= height:
            return self.shortest_edge, new_long
        return new_long, self.shortest_edge

    def seen_box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return the part (left, top, right, bottom) of an image, in its pixels, that is read."""
        new_width, new_height = self.resized_size(width, height)
        if not self.crop:
            return 0.0, 0.0, float(width), float(height)
        left, top = (new_width - self.width) // 2, (new_height - self.height) // 2
        across, down = width / new_width, height / new_height
        return (
            max(left * across, 0.0),
            max(top * down, 0.0),
            min((left + self.width) * across, float(width)),
            min((top + self.height) * down, float(height)),
        )

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Return (3, H, W) float32, normalised; equal to the stock processor's PIL backend."""
        values = np.asarray(self._resized(image), dtype=np.float32)
        scaled = values * np.float32(self.scale)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1)))

    def _resized(self, image: Image.Image) -> Image.Image:
        left, top, right, bottom = box = true_box(image)
        width, height = right - left, bottom - top
        size = self.resized_size(width, height)
        if not self.crop:
            return image.resize(size, resample=self.resample, box=box)
        if max(size) / min(size) > EXTREME_ASPECT:
            seen = self.seen_box(width, height)
            part = (left + seen[0], top + seen[1], left + seen[2], top + seen[3])
            return image.resize((self.width, self.height), resample=self.resample, box=part)
        resized = image.resize(size, resample=self.resample, box=box)
        x, y = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        return resized.crop((x, y, x + self.width, y + self.height))
