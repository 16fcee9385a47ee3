"""Encoding of image files as unit vectors."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.compute.lru import LruCache
from pipelines.compute.micro_batches import MicroBatcher
from pipelines.core.errors import MediaError, MemoryLimitError
from pipelines.media.images import MAX_PIXELS, decode_image, open_image, true_box

#: Above this aspect ratio only the cropped part is resized: a whole strip of 1 x 100,000 pixels
#: would take gigabytes.
EXTREME_ASPECT = 50.0


@dataclass(frozen=True)
class PixelRecipe:
    """Steps of a stock image processor: resize, crop the centre, scale from 0..255, normalise.

    Sizes are in pixels. The short side becomes `shortest_edge`; if that is 0, the size becomes the
    fixed one. `height` and `width` are those of the result; `mean` and `std` are per RGB channel.
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
        """Read the recipe from a stock image processor."""
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
        """Least short side, in pixels, of a JPEG decoded at a fraction of its size.

        At three times the target 99.9 % of the model's input values are within 2 grey levels of
        those of the full image, on photos; at twice it is up to 5 levels.
        """
        return 3 * max(self.height, self.width, self.shortest_edge)

    def resized_size(self, width: float, height: float) -> tuple[int, int]:
        """Return the (width, height) of an image after resizing, before the crop."""
        if not self.shortest_edge:
            return self.fixed_width, self.fixed_height
        short, long = min(width, height), max(width, height)
        new_long = int(self.shortest_edge * long / short)
        if width <= height:
            return self.shortest_edge, new_long
        return new_long, self.shortest_edge

    def seen_box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return the visible part (left, top, right, bottom) of an image, in its pixels."""
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


#: Images per batch of the vision tower.
IMAGES_PER_BATCH = 32

#: Images per step of `prepare`.
IMAGES_PER_STEP = 8

#: Cache size: 20,000 vectors of 768 numbers, as many as the largest dataset to evaluate has.
KEPT_BYTES = 64_000_000


class ImageEncoder:
    """Image encoder of a contrastive model."""

    def __init__(self, model: Any, processor: Any, *, max_pixels: int = MAX_PIXELS) -> None:
        self._model = model
        self.recipe = PixelRecipe.of(processor)
        self._max_pixels = max_pixels
        #: vectors by content
        self.kept: LruCache[str, torch.Tensor] = LruCache(KEPT_BYTES, lambda vector: vector.nbytes)
        self._batched: MicroBatcher[torch.Tensor, torch.Tensor] = MicroBatcher(
            self._run_tower, IMAGES_PER_BATCH
        )

    def open(self, path: Path) -> Image.Image:
        """Open an image, decoded no larger than the model needs.

        Raises:
            MediaError: it is unreadable.
        """
        return open_image(path, max_pixels=self._max_pixels, draft_px=self.recipe.draft_px)

    def encode(self, paths: Sequence[Path]) -> torch.Tensor:
        """Return (N, D) float32 unit vectors on the CPU, (0, 0) for no paths.

        Vectors are cached by file content. Concurrent requests share batches.

        Raises:
            MediaError: a file is unreadable.
        """
        if not paths:
            return torch.empty(0, 0)

        def compute(positions: list[int]) -> list[torch.Tensor]:
            vectors: list[torch.Tensor] = []
            for start in range(0, len(positions), IMAGES_PER_BATCH):
                part = positions[start : start + IMAGES_PER_BATCH]
                pixels = [self.recipe.pixels(self.open(paths[index])) for index in part]
                vectors += self._batched(pixels)
            return vectors

        return torch.stack(self.kept.get_many([_content_hash(path) for path in paths], compute))

    def prepare(self, paths: Sequence[Path]) -> Iterator[int]:
        """Encode files in advance, except unreadable ones; yield the number of files so far."""
        for start in range(0, len(paths), IMAGES_PER_STEP):
            part = paths[start : start + IMAGES_PER_STEP]
            with suppress(MediaError):  # reported by `encode`
                self.encode_readable(part)
            yield start + len(part)

    def encode_readable(
        self, paths: Sequence[Path], *, need_one: bool = True
    ) -> tuple[torch.Tensor, dict[int, str]]:
        """Return (M, D) vectors of the readable files in order, and the others' errors by position.

        Raises:
            MediaError: with `need_one`, of the first file, if none is readable.
        """
        good: list[torch.Tensor] = []
        bad: dict[int, str] = {}
        first: MediaError | None = None
        for start in range(0, len(paths), IMAGES_PER_BATCH):
            part = list(range(start, min(start + IMAGES_PER_BATCH, len(paths))))
            try:
                good.append(self.encode([paths[index] for index in part]))
            except MediaError:
                for index in part:
                    try:
                        good.append(self.encode([paths[index]]))
                    except MediaError as error:
                        bad[index] = error.message
                        first = first or error
        if first is not None and not good and need_one:
            raise first
        return torch.cat(good) if good else torch.empty(0, 0), bad

    def encode_contents(
        self, files: Sequence[tuple[str, bytes]]
    ) -> tuple[torch.Tensor, dict[int, str]]:
        """Encode (name, content) of image files, few enough for the memory.

        Returns (M, D) vectors of the readable ones in order, (0, 0) for none, and the error message
        of each other one by its position.
        """
        keys = [hashlib.sha256(content).hexdigest() for _, content in files]
        bad: dict[str, str] = {}
        pixels: dict[str, torch.Tensor] = {}
        for index in self.kept.missing(keys):
            try:
                pixels[keys[index]] = self._pixels(*files[index])
            except (MediaError, MemoryLimitError) as error:
                bad[keys[index]] = error.message
        good = [index for index, key in enumerate(keys) if key not in bad]

        def compute(positions: list[int]) -> list[torch.Tensor]:
            wanted = [good[position] for position in positions]
            ready = [  # a vector cached above may have been evicted since
                pixels[keys[index]] if keys[index] in pixels else self._pixels(*files[index])
                for index in wanted
            ]
            return self._batched(ready)

        found = torch.empty(0, 0)
        if good:
            found = torch.stack(self.kept.get_many([keys[index] for index in good], compute))
        return found, {i: bad[key] for i, key in enumerate(keys) if key in bad}

    def _pixels(self, name: str, content: bytes) -> torch.Tensor:
        image = decode_image(
            content, name, max_pixels=self._max_pixels, draft_px=self.recipe.draft_px
        )
        return self.recipe.pixels(image)

    @torch.inference_mode()
    def _run_tower(self, pixels: list[torch.Tensor]) -> list[torch.Tensor]:
        batch = torch.stack(pixels).to(self._model.device, self._model.dtype)
        features = self._model.get_image_features(pixel_values=batch).pooler_output
        vectors = torch.nn.functional.normalize(features.float(), dim=-1).cpu()
        return [vector.clone() for vector in vectors]  # a view would keep the whole batch


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(
            "The file {name!r} could not be read. Upload it again.", name=path.name
        ) from error
