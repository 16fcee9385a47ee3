"""Texts equal those of stock transformers with the same weights."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from pipelines.core.options import GenerationOptions
from pipelines.models.captioning.pipeline import CaptionPipeline
from pipelines.models.repetition import trim
from tests.support.captioning import FAMILIES

pytestmark = pytest.mark.long

CAPTIONERS = [key for key, (traits, _) in FAMILIES.items() if traits.caption is not None]
CONTINUERS = [key for key, (traits, _) in FAMILIES.items() if traits.continuation is not None]
ANSWERERS = [key for key, (traits, _) in FAMILIES.items() if traits.question is not None]
SHORT = GenerationOptions(max_new_tokens=12)


@cache
def stock(folder: Path, key: str) -> tuple[Any, Any]:
    traits, _ = FAMILIES[key]
    model = getattr(transformers, traits.model_class).from_pretrained(folder, dtype=torch.float32)
    return model.eval(), transformers.AutoProcessor.from_pretrained(folder, backend="pil")


def stock_text(folder: Path, key: str, picture: Path, text: str | None, **options: Any) -> str:
    """Return what the stock processor, `generate` and decode make of an image and a text.

    Random weights often run in circles; what our guard takes off such a text is tested elsewhere.
    """
    model, processor = stock(folder / key, key)
    image = Image.open(picture).convert("RGB")
    inputs = processor(images=image, text=text, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False, **options)
    skip = 0
    if key in {"blip2-opt", "instructblip-vicuna", "llava"}:
        skip = inputs["input_ids"].shape[1]
    if key == "blip" and text is not None:
        skip = inputs["input_ids"].shape[1] - 1  # the end token is not given to the decoder
    return trim(processor.decode(output[0][skip:], skip_special_tokens=True))[0]


#: What each family is given for a caption, a continuation and a question, written out.
STOCK_TEXTS = {
    "blip2-opt": ("", "a photo of", "Question: what shape? Answer:"),
    "blip2-t5": ("", "a photo of", "Question: what shape? Answer:"),
    "instructblip": (
        "A short image description:",
        "a photo of",
        "Question: what shape? Answer:",
    ),
    "instructblip-vicuna": (
        "A short image description:",
        "a photo of",
        "Question: what shape? Answer:",
    ),
    "blip": (None, "a photo of", None),
    "blip-vqa": (None, None, "what shape?"),
    "llava": (
        "USER: <image>\nDescribe this image. ASSISTANT:",
        "USER: <image>\na photo of ASSISTANT:",
        "USER: <image>\nwhat shape? ASSISTANT:",
    ),
}


@pytest.mark.parametrize("key", CAPTIONERS)
def test_captions_equal_stock(
    key: str, folder: Path, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    expected = [stock_text(folder, key, picture, STOCK_TEXTS[key][0]) for picture in pictures]
    found = models[key].caption(pictures, options=SHORT)
    assert [one.text for one in found] == expected
    assert len(set(expected)) > 1, "the fixture tells images apart"


@pytest.mark.parametrize("key", CONTINUERS)
def test_prompted_captions_equal_stock_without_the_prompt(
    key: str, folder: Path, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    expected = [stock_text(folder, key, picture, STOCK_TEXTS[key][1]) for picture in pictures]
    found = models[key].caption(pictures, "a photo of", SHORT)
    assert [one.text for one in found] == expected


@pytest.mark.parametrize("key", ANSWERERS)
def test_answers_equal_stock(
    key: str, folder: Path, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    for picture in pictures[:3]:
        expected = stock_text(folder, key, picture, STOCK_TEXTS[key][2])
        assert models[key].chat(picture, "what shape?", None, SHORT).text == expected


@pytest.mark.parametrize("key", ["blip2-opt", "blip2-t5", "blip", "llava"])
def test_beams_equal_stock(
    key: str, folder: Path, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    expected = [
        stock_text(folder, key, picture, STOCK_TEXTS[key][1], num_beams=3)
        for picture in pictures[:3]
    ]
    options = GenerationOptions(max_new_tokens=12, num_beams=3)
    found = models[key].caption(pictures[:3], "a photo of", options)
    assert [one.text for one in found] == expected
    streamed = list(models[key].stream_caption(pictures[0], "a photo of", options))
    assert [delta.text for delta in streamed if delta.text] == expected[:1]
