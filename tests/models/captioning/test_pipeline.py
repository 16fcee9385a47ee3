"""Batches, streams, the cache, conversations: alike for every family."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.compute.device import Device
from pipelines.core.errors import InputError, MediaError, WeightsError
from pipelines.core.options import GenerationOptions
from pipelines.core.settings import Quantization, Settings
from pipelines.models.captioning.image_inputs import FeatureCache, Row
from pipelines.models.captioning.pipeline import CaptionPipeline
from pipelines.models.captioning.prompts import PromptRequest
from tests.support.captioning import EXACT, FAMILIES, candidates, live

SHORT = GenerationOptions(max_new_tokens=12)
DRAWN = GenerationOptions(max_new_tokens=12, temperature=1.0, top_p=0.95, seed=7)
CAPTIONERS = [key for key, (traits, _) in FAMILIES.items() if traits.caption is not None]
ANSWERERS = [key for key, (traits, _) in FAMILIES.items() if traits.question is not None]
CHATTERS = [key for key, (traits, _) in FAMILIES.items() if traits.turn is not None]


def tower(pipeline: CaptionPipeline) -> Any:
    model = pipeline.connector.model
    return getattr(model, "vision_model", None) or model.model.vision_tower


def count_calls(module: Any) -> tuple[list[int], Any]:
    """Count the images that go through `module`; also return what takes the hook off."""
    seen: list[int] = []

    def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen.append(len(output.last_hidden_state))

    return seen, module.register_forward_hook(note, with_kwargs=True)


@pytest.mark.parametrize("options", [SHORT, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("key", CAPTIONERS)
def test_a_batch_gives_the_texts_of_its_images_alone(
    key: str, options: GenerationOptions, folder: Path, pictures: list[Path]
) -> None:
    many = live(folder / key, key)
    together = [one.text for one in many.caption(pictures, options=options)]
    alone = []
    for picture in pictures:
        many.features = FeatureCache()
        alone += [one.text for one in many.caption([picture], options=options)]
    assert together == alone
    assert len(set(alone)) > 1


@pytest.mark.parametrize("key", ["blip2-opt", "blip2-t5", "instructblip", "llava"])
def test_prompts_of_other_lengths_share_a_batch(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    """Shorter prompts are padded on the left, which must not be seen in their texts."""
    model = models[key]
    prepared = [model._prepare(picture) for picture in pictures]
    encoded = model.features.get_encoded(prepared, model.connector.encode)
    words = ["a", "a photo of the red hat", "two", "what is this shape and colour", "cat"]
    requests = [PromptRequest(template=str(model.traits.continuation), text=word) for word in words]
    rows = [model._row(one, request, SHORT) for one, request in zip(encoded, requests, strict=True)]
    assert len({len(row.prompt.ids) for row in rows}) > 1
    together = model._generate(rows, SHORT, [0] * len(rows))
    assert together == [model._generate([row], SHORT, [0])[0] for row in rows]


@pytest.mark.parametrize("options", [SHORT, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("key", CAPTIONERS)
def test_a_stream_joins_to_the_blocking_text(
    key: str,
    options: GenerationOptions,
    models: dict[str, CaptionPipeline],
    pictures: list[Path],
) -> None:
    for picture in pictures:
        blocking = models[key].caption([picture], options=options)[0]
        deltas = list(models[key].stream_caption(picture, options=options))
        assert "".join(delta.text for delta in deltas) == blocking.text
        assert deltas[-1].result == blocking
        assert all(delta.result is None for delta in deltas[:-1])


@pytest.mark.parametrize("key", CAPTIONERS)
def test_a_seed_draws_the_same_text_again_and_another_seed_another(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    def drawn(seed: int) -> str:
        options = GenerationOptions(max_new_tokens=12, temperature=1.5, seed=seed)
        return models[key].caption(pictures[:1], options=options)[0].text

    torch.manual_seed(1)
    first = [drawn(seed) for seed in range(4)]
    torch.manual_seed(2)
    assert [drawn(seed) for seed in range(4)] == first
    assert len(set(first)) > 1


def test_draws_follow_the_probabilities() -> None:
    from pipelines.models.captioning.decoding import SeededSampling

    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    drawn = torch.zeros(4)
    sampler = SeededSampling(GenerationOptions(temperature=1.0, top_p=0.9), [11])
    for _ in range(4000):
        drawn[sampler(torch.zeros(1, 1).long(), logits[None])[0].argmax()] += 1
    expected = torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95
    assert torch.allclose(drawn / 4000, expected, atol=0.03)  # three standard deviations: 0.024


@pytest.mark.parametrize("key", ANSWERERS)
def test_a_second_question_skips_the_vision_tower(
    key: str, folder: Path, pictures: list[Path]
) -> None:
    model = live(folder / key, key)
    fresh = [model.chat(pictures[1], "what colour?", None, SHORT).text]
    model.features = FeatureCache()
    seen, hook = count_calls(tower(model))
    model.chat(pictures[1], "what shape?", None, SHORT)
    assert seen == [1]
    assert [model.chat(pictures[1], "what colour?", None, SHORT).text] == fresh
    assert seen == [1], "the second question used the kept image"
    model.chat(pictures[2], "what colour?", None, SHORT)
    assert seen == [1, 1], "another image is encoded"
    hook.remove()


def test_the_same_picture_in_a_batch_is_encoded_once(
    folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    model = live(folder / "blip2-opt", "blip2-opt")
    copy = tmp_path / "copy.png"
    copy.write_bytes(pictures[0].read_bytes())
    seen, hook = count_calls(tower(model))
    texts = [one.text for one in model.caption([pictures[0], pictures[1], copy], options=SHORT)]
    assert seen == [2]
    assert texts[0] == texts[2]
    hook.remove()


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = FeatureCache(max_bytes=100)
    made: list[int] = []

    def encode(images: list[Any]) -> list[Any]:
        made.extend(int(image["pixels"][0]) for image in images)
        return [{"features": torch.zeros(10)} for _ in images]  # 40 bytes each

    def ask(*values: int) -> None:
        cache.get_encoded([{"pixels": torch.tensor([value])} for value in values], encode)

    ask(1, 2)
    ask(1)
    ask(3)  # 2 was not used since
    ask(1, 3)
    assert made == [1, 2, 3]
    ask(2)
    assert made == [1, 2, 3, 2]
    assert cache.weight == 80
    small = FeatureCache(max_bytes=10)
    small.get_encoded([{"pixels": torch.tensor([1])}], encode)
    assert small.weight == 0, "what is larger than the cache is not kept"


def test_a_batch_keeps_no_image(folder: Path, pictures: list[Path]) -> None:
    """Thousands of pictures pushed out the images that visitors were asking about."""
    model = live(folder / "blip2-opt", "blip2-opt")
    model.chat(pictures[0], "what shape?", None, SHORT)
    held = model.features.weight
    seen, hook = count_calls(tower(model))
    model.caption(pictures, options=SHORT)
    assert seen == [len(pictures) - 1], "what is kept is used all the same"
    assert model.features.weight == held > 0
    hook.remove()


@pytest.mark.parametrize("key", CAPTIONERS)
def test_closing_a_stream_stops_the_model(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    model = models[key]
    steps = 0

    def note(*_: Any) -> None:
        nonlocal steps
        steps += 1
        time.sleep(0.002)

    row = model._row_of(pictures[0], model._caption_request(""), SHORT)
    generator = model.connector.job([row]).model
    hook = generator.register_forward_hook(note)
    options = GenerationOptions(max_new_tokens=400, temperature=5.0, seed=1)
    stream = model.stream_caption(pictures[0], options=options)
    assert any(next(stream).text for _ in range(100))
    stream.close()  # type: ignore[attr-defined]
    at_close = steps
    time.sleep(0.1)
    hook.remove()
    assert steps == at_close < 100
    assert not [thread for thread in threading.enumerate() if thread.name == "work"]


@pytest.mark.parametrize("kind", ["beams", "batch"])
@pytest.mark.parametrize("key", ["blip2-opt", "blip2-t5", "blip", "llava"])
def test_closing_what_cannot_stream_stops_the_model_too(
    kind: str, key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    model = models[key]
    row = model._row_of(pictures[0], model._caption_request(""), SHORT)
    generator = model.connector.job([row]).model
    steps = 0

    def note(*_: Any) -> None:
        nonlocal steps
        steps += 1
        time.sleep(0.02)

    hook = generator.register_forward_hook(note)
    if kind == "beams":
        options = GenerationOptions(max_new_tokens=400, num_beams=2)
        work: Any = model.stream_caption(pictures[0], options=options)
        assert next(work).text == ""
    else:
        options = GenerationOptions(max_new_tokens=400, temperature=5.0, seed=3)
        work = model.iter_captions(pictures, options=options)
        assert next(work) is None, "a sign of life, no caption yet"
    work.close()
    at_close = steps
    time.sleep(0.1)
    hook.remove()
    assert 0 < steps == at_close < 100
    assert not [thread for thread in threading.enumerate() if thread.name == "work"]


@pytest.mark.parametrize("key", CHATTERS)
def test_a_conversation_keeps_within_the_context(
    key: str, folder: Path, pictures: list[Path]
) -> None:
    model = live(folder / key, key, context_tokens=120)
    history = []
    for index in range(12):
        history += [
            {"role": "user", "content": f"what colour is hat {index}?"},
            {"role": "assistant", "content": "red and green."},
        ]
    short = model.chat(pictures[0], "what shape?", history[:2], SHORT)
    long = model.chat(pictures[0], "what shape?", history, SHORT)
    assert short.context is not None
    assert long.context is not None
    assert short.context.dropped_turns == 0
    assert 0 < long.context.dropped_turns < 12
    assert long.context.used_tokens <= long.context.limit_tokens <= 120
    assert any("oldest" in note for note in long.notes)
    kept = model.chat(pictures[0], "what shape?", history[2 * long.context.dropped_turns :], SHORT)
    assert kept.text == long.text, "as if the oldest turns had not been sent"
    streamed = list(model.stream_chat(pictures[0], "what shape?", history, SHORT))
    assert streamed[-1].result == long


@pytest.mark.parametrize("key", ANSWERERS)
def test_a_long_question_is_used_as_far_as_it_is_read(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    result = models[key].chat(pictures[0], "what is the shape of this hat? " * 300, None, SHORT)
    assert result.context is not None
    assert result.context.cut
    assert result.context.used_tokens <= result.context.limit_tokens
    assert any("longer than the model reads" in note for note in result.notes)


def test_the_question_is_never_in_the_answer(
    models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    seen: list[list[int]] = []
    model = models["blip2-opt"]
    decode = model._decode
    model._decode = lambda ids: (seen.append(ids), decode(ids))[1]  # type: ignore[method-assign]
    model.chat(pictures[0], "what shape?", None, SHORT)
    del model._decode
    assert max(len(ids) for ids in seen) <= 12, "only new tokens are ever decoded"


def test_special_tokens_in_a_question_are_words_no_longer(
    models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    for key in ANSWERERS:
        result = models[key].chat(
            pictures[0], "what <image> </s> [SEP] is \ud800 this?", None, SHORT
        )
        assert not result.error


@pytest.mark.parametrize("key", CAPTIONERS)
def test_candidates_differ_and_begin_with_the_single_text(
    key: str, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    model = models[key]
    searched = candidates(model, pictures[0], 3, SHORT)
    wide = GenerationOptions(max_new_tokens=12, num_beams=3)
    assert searched[0] == model.caption(pictures[:1], options=wide)[0]
    assert len({one.text for one in searched}) == len(searched) <= 3
    assert len(searched) > 1 or searched[0].finish == "loop"  # what is left of loops is alike
    drawn = candidates(model, pictures[0], 3, DRAWN)
    alone = [
        model.caption(pictures[:1], options=GenerationOptions(**{**vars(DRAWN), "seed": 7 + i}))[0]
        for i in range(3)
    ]
    assert drawn == list(dict.fromkeys(alone))


@pytest.mark.parametrize("n", [0, 17, 2.0, True, "3"])
def test_a_bad_number_of_candidates_is_told(
    n: Any, models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    with pytest.raises(InputError, match="n must be a whole number from 1 to 16"):
        candidates(models["blip2-opt"], pictures[0], n)


def test_a_bad_file_costs_only_itself(
    models: dict[str, CaptionPipeline], pictures: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "notes.png"
    bad.write_text("no image", "utf-8")
    results = models["blip2-opt"].caption([pictures[0], bad, pictures[1]], options=SHORT)
    expected = models["blip2-opt"].caption(pictures[:2], options=SHORT)
    assert [results[0], results[2]] == expected
    assert "not an image" in results[1].error
    assert models["blip2-opt"].caption([bad])[0].text == ""
    with pytest.raises(MediaError):
        next(models["blip2-opt"].stream_caption(bad))


def test_a_long_batch_comes_one_by_one(
    models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    model = models["blip"]
    model.features = FeatureCache()
    seen, hook = count_calls(tower(model))
    results = model.iter_captions(pictures * 4, options=SHORT)
    first = next(one for one in results if one is not None)
    assert first.text
    assert sum(seen) == 5, "the first eight hold five different images, the rest waits"
    assert len([one for one in results if one is not None]) == 19
    hook.remove()


def test_the_model_is_given_as_many_at_once_as_is_said(
    models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    model = models["blip"]
    distinct = [Image.new("RGB", (40, 30), (20 * number, 90, 200)) for number in range(11)]
    texts = []
    for batch_size, given in ((1, [1] * 11), (4, [4, 4, 3]), (11, [11]), (64, [11])):
        model.features = FeatureCache()
        seen, hook = count_calls(tower(model))
        made = model.caption(distinct, options=SHORT, batch_size=batch_size)
        hook.remove()
        assert seen == given
        texts.append([one.text for one in made])
    assert all(each == texts[0] for each in texts)
    with pytest.raises(InputError, match="batch_size must be at least 1 but got 0"):
        model.caption(distinct, batch_size=0)


def test_what_a_model_cannot_do_is_told(
    models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    image = pictures[0]
    with pytest.raises(InputError, match="answers no questions"):
        models["blip"].chat(image, "what?")
    with pytest.raises(InputError, match="does not caption"):
        models["blip-vqa"].caption([image])
    with pytest.raises(InputError, match="holds no conversation"):
        history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        models["blip-vqa"].chat(image, "what?", history)
    with pytest.raises(InputError, match="The question is empty"):
        models["blip2-opt"].chat(image, "  ")
    with pytest.raises(InputError, match="must be text"):
        models["blip2-opt"].chat(image, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_new_tokens must be below 512"):
        models["blip2-opt"].chat(image, "a", None, GenerationOptions(max_new_tokens=600))


def test_notes_tell_what_a_person_may_not_expect(
    models: dict[str, CaptionPipeline], pictures: list[Path]
) -> None:
    result = models["blip2-opt"].chat(pictures[0], "这是什么颜色？", None, SHORT)
    assert any("Chinese" in note for note in result.notes)
    one = models["blip2-opt"].chat(pictures[0], "what?", None, GenerationOptions(max_new_tokens=1))
    assert one.finish == "length"
    assert any("max_new_tokens" in note for note in one.notes)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("key", FAMILIES)
def test_bfloat16_computes(key: str, packed: bool, folder: Path, pictures: list[Path]) -> None:
    from pipelines.compute.packed_linear import can_pack

    half = Device("cpu", "bfloat16", packed=packed and can_pack(), reason="tests")
    model = live(folder / key, key, half)
    if key in CAPTIONERS:
        assert any(one.text for one in model.caption(pictures, options=SHORT))
    if key in ANSWERERS:
        assert model.chat(pictures[0], "what shape?", None, SHORT).context is not None


def test_other_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    damaged = shutil.copytree(folder / "blip2-opt", tmp_path / "damaged")
    weights = load_file(damaged / "model.safetensors")
    weights.pop("query_tokens")
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lack 1 tensors"):
        live(damaged, "blip2-opt")
    bare = shutil.copytree(folder / "instructblip", tmp_path / "bare")
    shutil.rmtree(bare / "qformer_tokenizer")
    with pytest.raises(WeightsError, match="qformer_tokenizer"):
        live(bare, "instructblip")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_missing_extra_is_told(
    kind: Quantization, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipelines.models.captioning.loading.QUANTIZATION_EXTRA", ("no_such_package",)
    )
    with pytest.raises(WeightsError, match="pip install no_such_package"):
        live(folder / "blip2-opt", "blip2-opt", settings=Settings(quantization=kind))


def test_a_model_that_marks_images_in_another_way_is_refused(folder: Path) -> None:
    """Without its image token it would answer fluently, and never have seen the image."""
    with pytest.raises(WeightsError, match="marks images in another way"):
        live(folder / "llava", "llava", EXACT, image_text="<img>")


def test_what_the_model_raises_reaches_the_reader(folder: Path, pictures: list[Path]) -> None:
    model = live(folder / "blip2-opt", "blip2-opt")

    def fail(*_: Any) -> None:
        raise MemoryError("no room")

    model.connector.model.language_model.register_forward_hook(fail)
    with pytest.raises(MemoryError, match="no room"):
        model.caption(pictures[:1], options=SHORT)
    with pytest.raises(MemoryError, match="no room"):
        list(model.stream_caption(pictures[0], options=SHORT))


def test_unloading_drops_everything(folder: Path, pictures: list[Path]) -> None:
    model = live(folder / "blip", "blip")
    model.caption(pictures[:1], options=SHORT)
    model.unload()
    assert not model.loaded
    assert not hasattr(model, "connector")
    model.load()
    assert model.caption(pictures[:1], options=SHORT)[0].text


def test_rows_are_plain_values(models: dict[str, CaptionPipeline], pictures: list[Path]) -> None:
    model = models["blip2-opt"]
    row = model._row_of(pictures[0], model._caption_request(""), SHORT)
    assert isinstance(row, Row)
    assert len(row.prompt.ids) == 5, "four query tokens and the start token"
