"""Families whose stock processors need torchvision: texts equal those of the stock models."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.compute.device import Device
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Settings
from pipelines.models.captioning import traits
from pipelines.models.captioning.pipeline import CaptionPipeline
from pipelines.models.captioning.prompts import PromptRequest
from pipelines.models.repetition import trim
from tests.fakes import tiny_captioning_more as tiny_describe_more
from tests.support.caption_families import FAMILIES as SUPPORTED
from tests.support.captioning import EXACT, FAMILIES, Spec

pytestmark = pytest.mark.long

SHORT = GenerationOptions(max_new_tokens=10)
MORE: dict[str, tuple[Any, Any]] = {
    "florence2": (traits.FLORENCE2, tiny_describe_more.make_florence2),
    "internvl": (traits.INTERNVL, tiny_describe_more.make_internvl),
    "qwen2-vl": (traits.QWEN_VL, tiny_describe_more.make_qwen2_vl),
    "qwen2.5-vl": (traits.QWEN2_5_VL, tiny_describe_more.make_qwen2_5_vl),
    "qwen3-vl": (traits.QWEN3_VL, tiny_describe_more.make_qwen3_vl),
    "minicpm-v": (traits.MINICPM_V, tiny_describe_more.make_minicpm_v),
}
CHATTERS = [key for key, (one, _) in MORE.items() if one.turn is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for key, (_, make) in MORE.items():
        make(root / key)
    return root


def open_model(folder: Path, key: str, device: Device = EXACT) -> CaptionPipeline:
    spec = Spec(key, MORE[key][0])
    pipeline = CaptionPipeline(spec, folder / key, device, Settings())  # type: ignore[arg-type]
    pipeline.load()
    return pipeline


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, CaptionPipeline]:
    return {key: open_model(folder, key) for key in MORE}


def stock_text(
    model: CaptionPipeline, picture: Path, request: PromptRequest, **options: Any
) -> str:
    """Return what the stock model makes of the raw pixels and our tokens."""
    prepared = model._prepare(picture)
    (encoded,) = model.features.get_encoded([prepared], model.connector.encode)
    row = model._row(encoded, request, SHORT)
    ids = torch.tensor([row.prompt.ids])
    stock = model.connector.model
    inputs = {name: value for name, value in prepared.items() if name != "num_patches"}
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == stock.config.image_token_id).long()
    output = stock.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **inputs,
        max_new_tokens=10,
        do_sample=False,
        **options,
    )
    skip = 1 if model.traits.decoder == "seq2seq" else ids.shape[1]
    return trim(model._decode(output[0, skip:].tolist()))[0]


@pytest.mark.parametrize("key", MORE)
def test_captions_equal_the_stock_model_alone_in_a_batch_and_streamed(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    """Images of other proportions take other numbers of tokens, so batches are padded."""
    model = models[key]
    request = model._caption_request("")
    expected = [stock_text(model, picture, request) for picture in pictures]
    assert len(set(expected)) > 1
    assert [one.text for one in model.caption(pictures, options=SHORT)] == expected
    assert [model.caption([one], options=SHORT)[0].text for one in pictures] == expected
    for picture, text in zip(pictures, expected, strict=True):
        deltas = list(model.stream_caption(picture, options=SHORT))
        assert "".join(delta.text for delta in deltas) == text


@pytest.mark.parametrize("key", MORE)
def test_beams_equal_the_stock_model(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    model = models[key]
    request = model._caption_request("")
    expected = [stock_text(model, picture, request, num_beams=3) for picture in pictures[:2]]
    wide = GenerationOptions(max_new_tokens=10, num_beams=3)
    assert [model.caption([one], options=wide)[0].text for one in pictures[:2]] == expected


@pytest.mark.parametrize("key", CHATTERS)
def test_a_conversation_equals_the_stock_model_and_skips_the_vision_tower(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    model = models[key]
    history = [
        {"role": "user", "content": "what colour?"},
        {"role": "assistant", "content": "red"},
    ]
    expected = stock_text(model, pictures[1], model._question_request("what shape?", history))
    encoded: list[int] = []
    encode = model.connector.encode
    model.connector.encode = lambda images: (encoded.append(len(images)), encode(images))[1]  # type: ignore[method-assign]
    assert model.chat(pictures[1], "what shape?", history, SHORT).text == expected
    assert encoded == []
    del model.connector.encode


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("key", MORE)
def test_bfloat16_computes(key: str, packed: bool, folder: Path, pictures: list[Path]) -> None:
    from pipelines.compute.packed_linear import can_pack

    half = Device("cpu", "bfloat16", packed=packed and can_pack(), reason="tests")
    model = open_model(folder, key, half)
    assert any(one.text for one in model.caption(pictures, options=SHORT))


@pytest.mark.parametrize("key", ["qwen2-vl", "qwen3-vl", "internvl"])
def test_visitors_at_the_same_time_get_their_own_answers(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    """Qwen-VL writes `rope_deltas` on itself at every request; `generate` must not read it back."""
    model = models[key]

    def answer(index: int) -> str:
        deltas = model.stream_chat(pictures[index % 5], f"what colour {index}?", None, SHORT)
        return "".join(delta.text for delta in deltas)

    alone = [answer(index) for index in range(10)]
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(answer, range(10))) == alone


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (50, 3), (3, 3000), (1, 30000)])
@pytest.mark.parametrize("key", ["internvl", "qwen2-vl", "minicpm-v"])
def test_tiny_images_and_strips_are_described(
    key: str, size: tuple[int, int], models: dict[str, CaptionPipeline], tmp_path: Path
) -> None:
    path = tmp_path / "strip.png"
    Image.new("RGB", size, "red").save(path)
    options = GenerationOptions(max_new_tokens=2)
    assert not models[key].caption([path], options=options)[0].error


def test_the_table_of_families_says_what_is_tested() -> None:
    tested = {"stock processor": set(), "stock model": set()}  # type: ignore[var-annotated]
    for family in SUPPORTED:
        if family.traits is not None:
            assert family.repos, f"{family.family} names a checkpoint"
            tested[family.checked].add(family.traits.model_class)
    assert tested["stock processor"] == {one.model_class for one, _ in FAMILIES.values()}
    assert tested["stock model"] == {one.model_class for one, _ in MORE.values()}
    assert any(family.traits is None for family in SUPPORTED)
