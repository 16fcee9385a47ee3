"""What a vision tower reads equals what the stock image processors make of the same image."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.models.clip.images import PixelRecipe

PX = 32


def _processors() -> dict[str, Any]:
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import (
        ChineseCLIPImageProcessorPil,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    square = {"height": PX, "width": PX}
    return {
        "CLIP": CLIPImageProcessorPil(size={"shortest_edge": PX}, crop_size=square),
        "SigLIP": SiglipImageProcessorPil(size=square),
        "Chinese-CLIP": ChineseCLIPImageProcessorPil(
            size=square, crop_size=square, do_center_crop=False
        ),
        "CLIP at full size": CLIPImageProcessorPil(),
        "SigLIP at full size": SiglipImageProcessorPil(),
        "Chinese-CLIP as by default": ChineseCLIPImageProcessorPil(),
        "bare": CLIPImageProcessorPil(
            size={"shortest_edge": PX}, crop_size=square, do_normalize=False, do_rescale=False
        ),
    }


PROCESSORS = _processors()
CLIP = PROCESSORS["CLIP"]


SIZES = [(224, 224), (31, 77), (500, 33), (33, 500), (7, 9), (1, 1), (32, 3), (640, 13), (13, 640)]


@pytest.mark.parametrize("key", PROCESSORS)
@pytest.mark.parametrize("size", SIZES)
def test_pixels_equal_the_stock_processor(key: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    expected = PROCESSORS[key](images=image, return_tensors="pt")["pixel_values"][0]
    found = PixelRecipe.of(PROCESSORS[key]).pixels(image)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected.float(), atol=1e-6)


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (9001, 7), (1801, 35)])
def test_an_extreme_strip_is_close_to_the_stock_processor(size: tuple[int, int]) -> None:
    """Only the part that is seen is resized, so its edges lie up to a pixel beside stock's."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    recipe = PixelRecipe.of(CLIP)
    expected = CLIP(images=image, return_tensors="pt")["pixel_values"][0]
    levels = (recipe.pixels(image) - expected).abs() * torch.tensor(recipe.std)[:, None, None] * 255
    assert levels.max() <= 3.0


def test_an_extreme_strip_takes_no_memory() -> None:
    """In proportion it would be 640,000 x 32 pixels."""
    recipe = PixelRecipe.of(CLIP)
    for size in ((60_000, 3), (3, 60_000)):
        strip = Image.new("RGB", size, (10, 200, 30))
        pixels = recipe.pixels(strip)
        assert pixels.shape == (3, 32, 32)
        spread, middle = torch.tensor(recipe.std), torch.tensor(recipe.mean)
        levels = pixels.amax(dim=(1, 2)) * spread + middle
        assert (levels * 255).tolist() == pytest.approx([10, 200, 30], abs=0.01)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((224, 224), (0, 0, 224, 224)),
        ((320, 160), (80, 0, 240, 160)),
        ((160, 320), (0, 80, 160, 240)),
        ((6000, 30), (2985, 0, 3015, 30)),
        ((1, 1), (0, 0, 1, 1)),
    ],
)
def test_the_part_that_is_seen(size: tuple[int, int], box: tuple[int, ...]) -> None:
    recipe = PixelRecipe.of(CLIP)
    assert recipe.seen_box(*size) == pytest.approx(box, rel=0.03)
    whole = PixelRecipe.of(PROCESSORS["SigLIP"])
    assert whole.seen_box(*size) == (0.0, 0.0, *map(float, size))


@pytest.mark.parametrize("size", [(320, 160), (100, 777)])
def test_nothing_outside_the_part_that_is_seen_matters(size: tuple[int, int]) -> None:
    recipe = PixelRecipe.of(CLIP)
    left, top, right, bottom = recipe.seen_box(*size)
    rng = np.random.default_rng(2)
    inside = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    margin = 2.5 * min(size) / 32  # the resampling filter reaches this far beyond
    start = max(int(left - margin), 0), max(int(top - margin), 0)
    end = min(int(right + margin) + 1, size[0]), min(int(bottom + margin) + 1, size[1])
    outside = Image.new("RGB", size, (255, 0, 0))
    outside.paste(inside.crop((*start, *end)), start)
    assert recipe.pixels(outside).equal(recipe.pixels(inside))
    outside.paste((255, 0, 0), tuple(int(v) for v in (left, top, right, bottom)))
    assert not torch.allclose(recipe.pixels(outside), recipe.pixels(inside), atol=0.1)
