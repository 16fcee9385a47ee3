"""VideoChat-Flash piece by piece: tables of the reference, and independent formulations."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import InputError, WeightsError
from pipelines.models.videochat_flash.configuration_videochat_flash import (
    CARD_DROPPING,
    Dropping,
    VisionConfig,
)
from pipelines.models.videochat_flash.kv_cache import VISUAL
from pipelines.models.videochat_flash.modeling_language import (
    evenly,
    most_attended,
    num_kept,
)
from pipelines.models.videochat_flash.modeling_umt import UmtTower, full_attention
from pipelines.models.videochat_flash.modeling_vision import merge_tokens
from pipelines.models.videochat_flash.processing_videochat_flash import (
    chat_prompt,
    choose_frames,
    encode_prompt,
    first_question,
    stream_text,
    time_message,
    whole_clips,
)
from tests.support.videochat_golden import (  # noqa: F401
    clips_of,
    error,
    features,
    given,
    model,
    one_thread,
    table,
    tokenizer,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# merging


def merge_by_hand(tokens: list[np.ndarray], num_heads: int, target: int) -> list[np.ndarray]:
    """Merge one clip as the words of the paper say, token by token, in float64."""
    sizes = [1.0] * len(tokens)
    while len(tokens) > target:
        metric = []
        for token in tokens:
            mean = token.reshape(num_heads, -1).mean(axis=0)
            metric.append(mean / np.sqrt((mean**2).sum()))
        evens, odds = range(0, len(tokens), 2), range(1, len(tokens), 2)
        best = {i: max(odds, key=lambda j, i=i: metric[i] @ metric[j]) for i in evens}
        order = sorted(evens, key=lambda i: -(metric[i] @ metric[best[i]]))
        merged = order[: min(len(tokens) // 2, len(tokens) - target)]
        total = {j: tokens[j] * sizes[j] for j in odds}
        weight = {j: sizes[j] for j in odds}
        for i in merged:
            total[best[i]] = total[best[i]] + tokens[i] * sizes[i]
            weight[best[i]] += sizes[i]
        staying = order[len(merged) :]
        tokens = [tokens[i] for i in staying] + [total[j] / weight[j] for j in odds]
        sizes = [sizes[i] for i in staying] + [weight[j] for j in odds]
    return tokens


@pytest.mark.parametrize(("count", "target"), [(196, 64), (129, 64), (81, 64), (65, 64), (40, 7)])
def test_merging_agrees_with_merging_by_hand(count: int, target: int) -> None:
    """Odd numbers too, and rounds in which some tokens find no partner."""
    tokens = random(3, count, 32, seed=count)
    ours = merge_tokens(tokens, 4, target=target)
    for clip, result in zip(tokens, ours, strict=True):
        by_hand = merge_by_hand(list(clip.double().numpy()), 4, target)
        assert error(result, torch.from_numpy(np.stack(by_hand)).float()) < 1e-5


def test_clips_are_merged_each_by_itself() -> None:
    tokens = random(3, 196, 32)
    for row in range(3):
        alone = merge_tokens(tokens[row : row + 1], 4)
        assert error(alone[0], merge_tokens(tokens, 4)[row]) < 1e-6


def test_merging_keeps_the_sum_and_the_dtype() -> None:
    """Weighted by their sizes, the tokens that come out are those that went in."""
    tokens = random(1, 128, 32)
    assert error(merge_tokens(tokens, 4).mean(), tokens.mean()) < 0.5
    half = merge_tokens(tokens.bfloat16(), 4)
    assert half.dtype == torch.bfloat16
    assert error(half.float(), merge_tokens(tokens.bfloat16().float(), 4)) < 0.02
    few = random(2, 64, 32)
    assert torch.equal(merge_tokens(few, 4), few)


# tower


@pytest.mark.parametrize("image_px", [224, 64])
def test_tower_agrees_with_plain_attention(image_px: int) -> None:
    """Patches by a convolution, attention written out."""
    torch.manual_seed(0)
    config = VisionConfig(
        kind="umt",
        image_px=image_px,
        patch_px=16,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        mlp_size=64,
    )
    tower, pixels = UmtTower(config).eval(), random(2, 4, 3, image_px, image_px)
    kernel = tower.patch_embed.weight.view(32, 3, 1, 16, 16)
    volume = torch.nn.functional.conv3d(
        pixels.transpose(1, 2), kernel, tower.patch_embed.bias, stride=(1, 16, 16)
    )
    from pipelines.models.videochat_flash.modeling_umt import position_table

    x = volume.flatten(2).transpose(1, 2) + position_table(4, image_px // 16, 32)
    for block in tower.blocks:
        query, key, value = (
            part.view(2, -1, 4, 8).transpose(1, 2)
            for part in block.qkv(block.norm1(x)).chunk(3, dim=-1)
        )
        weights = (query @ key.transpose(2, 3) / 8**0.5).softmax(dim=-1)
        x = x + block.proj((weights @ value).transpose(1, 2).reshape(2, -1, 32))
        x = x + block.fc2(torch.nn.functional.gelu(block.fc1(block.norm2(x))))
    with torch.inference_mode():
        seen = tower(pixels)
        assert bool(seen.isfinite().all())
        assert error(seen, tower.norm(x)) < 1e-5
        assert error(tower(pixels[1:]), seen[1:]) < 1e-5  # one clip alone


def attention_by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The formula, in float64."""
    query, key, value = query.double(), key.double(), value.double()
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    mixed = torch.einsum("bhqk,bhkd->bhqd", weights, value)
    return mixed / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize(("length", "width"), [(512, 64), (784, 88), (1025, 64)])
@pytest.mark.parametrize("sharpness", [0.1, 0.3, 1.0, 2.0])
def test_attention_in_blocks_agrees_with_the_formula(
    length: int, width: int, sharpness: float
) -> None:
    """The longest clips of a CPU in bfloat16, whose own rounding is 0.004 of a number at most."""
    query, key, value = random(3, 2, 2, length, width).bfloat16() * sharpness
    exact = attention_by_hand(query, key, value)
    ours = full_attention(query, key, value)
    assert (ours.shape, ours.dtype) == (query.shape, torch.bfloat16)
    assert (ours.double() - exact).norm() / exact.norm() < 0.005
    rounded = (query @ key.transpose(-1, -2) * width**-0.5).softmax(dim=-1) @ value
    if sharpness >= 1:  # large scores, rounded to bfloat16 as they are, are worse
        assert (ours.double() - exact).norm() < (rounded.double() - exact).norm()


def test_a_score_that_no_sample_shows_overflows_and_is_computed_afresh() -> None:
    """One key that the sample leaves out outweighs all by far more than exp can hold."""
    query, key, value = random(3, 1, 1, 600, 64).bfloat16()
    query[..., 0], key[..., 0] = 40.0, 0.0
    key[0, 0, 5, 0] = 40.0  # 40 * 40 / 8 = 200 above the others, and 5 is no multiple of 8
    ours = full_attention(query, key, value)
    assert bool(ours.isfinite().all())
    assert error(ours[0, 0], value[0, 0, 5].expand(600, -1)) < 2**-7  # twice bfloat16's rounding
    assert error(ours.double(), attention_by_hand(query, key, value)) < 1e-2


@pytest.mark.parametrize("above", [5, 10, 20, 40, 86])
def test_scores_far_above_the_sample_are_no_worse(above: int) -> None:
    """One key in the sample's gap stands out; its values are as large as any."""
    query, key, value = random(3, 1, 1, 784, 64).bfloat16()
    query[..., 0], key[..., 0] = 8.0, 0.0
    key[0, 0, 5, 0] = above  # 8 * above / 8
    ours = full_attention(query, key, 5 * value)
    exact = attention_by_hand(query, key, 5 * value)
    assert bool(ours.isfinite().all())
    assert (ours.double() - exact).norm() / exact.norm() < 0.01


def test_short_or_exact_attention_is_sdpa() -> None:
    short = random(3, 1, 2, 511, 64).bfloat16()
    exact = random(3, 1, 2, 600, 64)
    for parts in (short, exact):
        stock = torch.nn.functional.scaled_dot_product_attention(*parts)
        assert torch.equal(full_attention(*parts), stock)


def test_a_tower_of_broken_patches_is_refused() -> None:
    with pytest.raises(WeightsError, match="100 px in patches of 16"):
        VisionConfig(
            kind="umt",
            image_px=100,
            patch_px=16,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            mlp_size=64,
        )


# dropping


def test_even_dropping_takes_the_references_places() -> None:
    """A float32 line, or the same line on a GPU, takes another place for some sizes."""
    for row in table("uniform_drop_indices"):
        places = evenly(row["num_tokens"], row["keep"])
        assert places.tolist() == row["indices"]
        golden = torch.linspace(0, row["num_tokens"] - 1, row["keep"], dtype=torch.int64)
        assert places.tolist() == golden.tolist()


def test_numbers_of_tokens_are_truncated() -> None:
    assert [num_kept(320, ratio) for ratio in (1, 0.75, 0.3, 0.25)] == [320, 240, 96, 80]
    assert num_kept(128, 0.3) == 38


def test_most_attended_agrees_with_plain_softmax() -> None:
    query, keys = random(6, 1, 8), random(2, 40, 8, seed=1)
    repeated = keys.repeat_interleave(3, dim=0)
    weights = (query @ repeated.transpose(1, 2) / 8**0.5).softmax(-1).mean(0)[0]
    best = sorted(range(5, 35), key=lambda place: -float(weights[place]))[:7]
    assert most_attended(query, keys, slice(5, 35), 7).tolist() == sorted(p - 5 for p in best)


@pytest.mark.parametrize(
    ("kind", "layers", "ratios", "words"),
    [
        ("nearest", (3,), (1, 0.5), "must be one of uniform, attention"),
        ("uniform", (3,), (1,), "need 2 ratios"),
        ("uniform", (3,), (0.9, 0.5), "the first is 1"),
        ("uniform", (4, 3), (1, 0.5, 0.2), "must increase"),
        ("uniform", (0,), (1, 0.5), "must increase from 1"),
        ("uniform", (3,), (1, 0), "stay above 0"),
        ("uniform", (3, 4), (1, 0.2, 0.5), "must fall"),
    ],
)
def test_dropping_is_checked(kind: str, layers: tuple, ratios: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Dropping(kind, layers, ratios)


def test_dropping_must_fit_the_model() -> None:
    with pytest.raises(InputError, match="layers 0 to 5"):
        CARD_DROPPING.check_fits(6)
    CARD_DROPPING.check_fits(28)
    assert CARD_DROPPING.first_scored_layer == 18
    assert Dropping("uniform", (4,), (1, 0.5)).first_scored_layer is None
    assert Dropping("attention", (8, 16), (1, 0.5, 0.2)).first_scored_layer == 8


# frames


def test_frames_are_chosen_as_by_the_reference() -> None:
    cases = table("frame_sampling")["cases"]
    assert len(cases) >= 20
    for case in cases:
        choice = choose_frames(
            case["total_frames"], case["fps"], max_num_frames=case["max_num_frames"]
        )
        assert list(choice.indices) == case["indices"]
        assert len(choice.indices) == case["num_frames"]
        assert choice.duration_s == case["duration_s"]
        assert choice.message == case["message"].strip()


def test_frames_of_a_part_are_chosen_as_by_the_reference() -> None:
    for case in table("frame_sampling")["clip_cases"]:
        choice = choose_frames(
            case["total_frames"],
            case["fps"],
            max_num_frames=case["max_num_frames"],
            start_s=case["start"],
            end_s=case["end"],
        )
        assert list(choice.indices) == case["indices"]
        assert choice.message == case["message"].strip()


@pytest.mark.parametrize(
    ("total", "fps", "start", "end"),
    [(0, 30.0, None, None), (90, 0.0, None, None), (90, 30.0, 5.0, 9.0), (90, 30.0, 2.0, 1.0)],
)
def test_no_frames_to_choose(total: int, fps: float, start: float | None, end: float) -> None:
    with pytest.raises(InputError, match="no frame"):
        choose_frames(total, fps, start_s=start, end_s=end)


def test_fewer_frames_where_a_smaller_minimum_is_given() -> None:
    choice = choose_frames(3000, 30.0, max_num_frames=16, min_num_frames=16)
    assert len(choice.indices) == 16
    assert [whole_clips(number) for number in (1, 4, 7, 70, 512)] == [4, 4, 4, 68, 512]


def test_a_video_is_left_in_the_middle_of_a_clip() -> None:
    """The largest tower takes half a minute for a clip on a small machine."""
    asked: list[bool] = []

    def condition() -> bool:
        asked.append(True)
        return len(asked) == 2

    with pytest.raises(Cancelled):
        model().visual.encode(clips_of(given("v8.frames_u8"), 144)[:1], CancelToken(condition))
    assert len(asked) == 2  # of three blocks


def test_clip_by_clip_is_the_whole_video() -> None:
    clips = clips_of(given("v20.frames_u8"), 144)
    assert error(model().visual.encode(clips).flatten(0, 1), features("v20")) < 1e-6


# texts


@pytest.mark.parametrize("name", table("prompts"))
def test_conversations_are_the_references(name: str) -> None:
    case = table("prompts")[name]
    message = time_message(case["duration_s"], case["num_frames"])
    turns: list[tuple[str, str]] = []
    for number, turn in enumerate(case["turns"]):
        question = case["questions"][number]
        question = question if turns else first_question(question, message)
        text = chat_prompt(turns, question)
        assert text == turn["prompt"]
        assert encode_prompt(tokenizer(), text) == turn["ids"]
        answer = case["raw_generated"][number].strip().removesuffix("<|im_end|>").strip()
        assert answer == turn["answer"]
        turns.append((question, answer))
        history = [content for pair in turns for content in pair]
        assert history == [entry["content"] for entry in turn["history_after"]]


def test_a_typed_mark_is_only_text() -> None:
    """The reference takes it for a second video."""
    text = chat_prompt([], first_question("What does <image> mean?"))
    ids = encode_prompt(tokenizer(), text)
    assert ids.count(VISUAL) == 1
    assert b"What does <image> mean?" in bytes(token for token in ids if 0 <= token < 256)


def test_the_padding_token_is_left_out() -> None:
    assert encode_prompt(tokenizer(), "a<|endoftext|>b") == [97, 98]


def as_tokens(data: bytes) -> Iterator[int]:
    yield from data


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (b"ab c", ["a", "b", " c"]),
        (b"  \n a  b \n ", ["a", "  b"]),
        ("né 象!".encode(), ["n", "é", " 象", "!"]),
        (b"", []),
        (b"   ", []),
        ("ok 象".encode()[:-1], ["o", "k", " \ufffd"]),
    ],
)
def test_text_comes_in_whole_characters(data: bytes, pieces: list[str]) -> None:
    shown = list(stream_text(tokenizer(), as_tokens(data)))
    assert shown == pieces
    whole = tokenizer().decode(list(data), skip_special_tokens=True)
    assert "".join(shown) == whole.strip()


def test_closing_the_text_closes_the_tokens() -> None:
    closed: list[bool] = []

    def ids() -> Iterator[int]:
        try:
            while True:
                yield 97
        finally:
            closed.append(True)

    text = stream_text(tokenizer(), ids())
    assert next(text) == "a"
    text.close()
    assert closed == [True]
