"""VideoChat-Flash from turn to turn: a kept cache says what a fresh one says; stopping; seeds."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2ForCausalLM

from pipelines.core.cancel import Cancelled, CancelToken
from pipelines.core.errors import InputError
from pipelines.models.videochat_flash import modeling_language
from pipelines.models.videochat_flash.configuration_videochat_flash import (
    Dropping,
    GenerationDefaults,
)
from pipelines.models.videochat_flash.generation import Decoding, TokenChooser, generate
from pipelines.models.videochat_flash.kv_cache import VISUAL, KeyValues
from pipelines.models.videochat_flash.modeling_language import (
    VideoPrompt,
    prefill,
    splice,
    step,
)
from pipelines.models.videochat_flash.modeling_videochat_flash import text_config
from tests.support.videochat_golden import (  # noqa: F401
    MODES,
    STOP,
    dropping,
    error,
    expected,
    features,
    given,
    model,
    one_thread,
    prompt,
)

CLOSE = 1e-5


def stock() -> Qwen2ForCausalLM:
    """Return the same weights in a model of transformers that no code of ours touched."""
    fresh = Qwen2ForCausalLM(text_config(model().config)).eval()
    fresh.load_state_dict(model().language.state_dict())
    return fresh


def answered(case: str, mode: str, cache: KeyValues, number: int = 6) -> list[int]:
    decoding = Decoding(max_new_tokens=number)
    return list(
        generate(
            model().language,
            prompt(case),
            decoding,
            cache=cache,
            dropping=dropping(mode),
        )
    )


@pytest.mark.parametrize("case", ["v8.turn1", "v20.turn2", "img"])
def test_without_dropping_it_is_stock_qwen2(case: str) -> None:
    """Logits of the prompt and of every step, and what `generate` of transformers answers."""
    theirs, ours, cache = stock(), model().language, KeyValues()
    embeds = splice(ours, prompt(case))
    with torch.inference_mode():
        whole = theirs(inputs_embeds=embeds, use_cache=True)
        assert error(prefill(ours, prompt(case), cache).logits, whole.logits[0, -1]) < CLOSE
        kept = whole.past_key_values
        for token in expected(f"{case}.off.generated").tolist()[:4]:
            next_one = theirs(input_ids=torch.tensor([[token]]), past_key_values=kept)
            assert error(step(ours, token, cache), next_one.logits[0, -1]) < CLOSE
        written = theirs.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64),
            max_new_tokens=10,
            do_sample=False,
            repetition_penalty=1.1,
            eos_token_id=list(STOP),
            pad_token_id=256,
        )
    decoding = Decoding(max_new_tokens=10, repetition_penalty=1.1)
    assert list(generate(ours, prompt(case), decoding)) == written[0].tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("video", ["v8", "v20"])
def test_a_second_turn_on_a_kept_cache(video: str, mode: str) -> None:
    """The second turn repeats the first one's prompt and then its answer, as text."""
    language, second = model().language, prompt(f"{video}.turn2")
    cache = KeyValues()
    answered(f"{video}.turn1", mode, cache)
    kept = prefill(language, second, cache, dropping=dropping(mode))
    assert kept.num_reused > second.first_visual + second.num_visual
    fresh_cache = KeyValues()
    fresh = prefill(language, second, fresh_cache, dropping=dropping(mode))
    assert fresh.num_reused == 0
    assert error(kept.logits, fresh.logits) < CLOSE
    assert error(kept.logits, expected(f"{video}.turn2.{mode}.logits_last")) < CLOSE
    assert cache.lengths() == fresh_cache.lengths()
    rerun = {"off": 0, "u0a": 1, "att": 1, "uni": 0}[mode]
    assert len(kept.kept) == rerun
    for ours, theirs in zip(kept.kept[::-1], fresh.kept[::-1], strict=False):
        assert ours.tolist() == theirs.tolist()
    for token in expected(f"{video}.turn2.{mode}.generated").tolist()[:4]:
        assert error(step(language, token, cache), step(language, token, fresh_cache)) < CLOSE


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_on_a_kept_cache_is_the_references(mode: str) -> None:
    cache = KeyValues()
    answered("v20.turn1", mode, cache, number=9)
    assert answered("v20.turn2", mode, cache, 12) == (
        expected(f"v20.turn2.{mode}.generated").tolist()
    )
    assert cache.lengths() == expected(f"v20.turn2.{mode}.kv_lengths").tolist()


@pytest.mark.parametrize("mode", MODES)
def test_generated_tokens_are_kept_too(mode: str) -> None:
    """A third prompt that goes on from exactly the ids that were generated reads only the rest."""
    language, cache = model().language, KeyValues()
    said = answered("v8.turn1", mode, cache)
    first = prompt("v8.turn1")
    longer = VideoPrompt([*first.ids, *said, 10, 65, 66], first.features)
    kept = prefill(language, longer, cache, dropping=dropping(mode))
    assert len(longer) - kept.num_reused == 4  # the last generated token was never read
    fresh = prefill(language, longer, KeyValues(), dropping=dropping(mode))
    assert error(kept.logits, fresh.logits) < CLOSE
    assert cache.ids == longer.ids


@pytest.mark.parametrize("mode", MODES)
def test_the_same_prompt_again(mode: str) -> None:
    """All but its last token is held; and an earlier, shorter conversation is a prefix."""
    language, cache = model().language, KeyValues()
    answered("v8.turn2", mode, cache)
    for case in ("v8.turn2", "v8.turn1", "v8.turn2"):
        again = prefill(language, prompt(case), cache, dropping=dropping(mode))
        assert again.num_reused > 128
        assert error(again.logits, expected(f"{case}.{mode}.logits_last")) < CLOSE


@pytest.mark.parametrize("before", MODES)
@pytest.mark.parametrize("after", MODES)
def test_another_video_or_mode_on_the_same_cache(before: str, after: str) -> None:
    language, cache = model().language, KeyValues()
    answered("v8.turn1", before, cache, number=3)
    read = prefill(language, prompt("v20.turn1"), cache, dropping=dropping(after))
    assert error(read.logits, expected(f"v20.turn1.{after}.logits_last")) < CLOSE
    other = VideoPrompt(prompt("v20.turn1").ids, features("v20") + 1)
    moved = prefill(language, other, cache, dropping=dropping(after))
    fresh = prefill(language, other, KeyValues(), dropping=dropping(after))
    assert error(moved.logits, fresh.logits) < CLOSE
    read = prefill(language, prompt("v20.turn1"), cache, dropping=dropping(before))
    assert error(read.logits, expected(f"v20.turn1.{before}.logits_last")) < CLOSE


def test_text_alone_and_then_a_video() -> None:
    language, cache = model().language, KeyValues()
    words = VideoPrompt(list(b"hello there"))
    for text in (words, VideoPrompt(list(b"hello where")), words):
        ours = prefill(language, text, cache, dropping=dropping("u0a"))
        assert error(ours.logits, prefill(language, text, KeyValues()).logits) < CLOSE
    for mode in ("u0a", "off"):
        prefill(language, words, cache)
        read = prefill(language, prompt("v8.turn1"), cache, dropping=dropping(mode))
        assert error(read.logits, expected(f"v8.turn1.{mode}.logits_last")) < CLOSE


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_a_prompt_in_pieces(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long prompt goes through an MLP piece by piece, and can be stopped between them."""
    monkeypatch.setattr(modeling_language, "ROWS", 7)
    language, looks = model().language, []
    read = prefill(
        language,
        prompt("v8.turn1"),
        KeyValues(),
        dropping=dropping(mode),
        cancel=CancelToken(lambda: bool(looks.append(1))),
    )
    assert error(read.logits, expected(f"v8.turn1.{mode}.logits_last")) < CLOSE
    assert len(looks) > 3 * language.config.num_hidden_layers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layers", [1, 3, 5])
def test_stopped_while_reading(mode: str, layers: int) -> None:
    """The cache stays usable, wherever it was stopped, in the first turn or the second."""
    language = model().language
    for first in (False, True):
        cache = KeyValues()
        if not first:
            answered("v8.turn1", mode, cache, number=3)
        asked = iter(range(100))
        with pytest.raises(Cancelled):
            prefill(
                language,
                prompt("v8.turn2"),
                cache,
                dropping=dropping(mode),
                cancel=CancelToken(lambda asked=asked: next(asked) == layers),
            )
        read = prefill(language, prompt("v8.turn2"), cache, dropping=dropping(mode))
        assert error(read.logits, expected(f"v8.turn2.{mode}.logits_last")) < CLOSE


@pytest.mark.parametrize(
    "stages",
    [
        Dropping("attention", (1, 2, 5), (1, 0.9, 0.5, 0.1)),
        Dropping("uniform0_attention", (1, 2, 5), (1, 1, 0.5, 0.01)),
        Dropping("uniform", (1, 2, 3, 4, 5), (1, 0.8, 0.6, 0.4, 0.2, 0.1)),
        Dropping("uniform", (), (1,)),
    ],
)
def test_any_lists_of_layers_and_ratios(stages: Dropping) -> None:
    language, cache = model().language, KeyValues()
    for case in ("v8.turn1", "v8.turn2"):
        kept = prefill(language, prompt(case), cache, dropping=stages)
        fresh_cache = KeyValues()
        fresh = prefill(language, prompt(case), fresh_cache, dropping=stages)
        assert error(kept.logits, fresh.logits) < CLOSE
        text = len(prompt(case)) - 128
        spans = pairwise((0, *stages.layers, 6))
        lengths = [
            text + int(128 * ratio)
            for ratio, (start, end) in zip(stages.ratios, spans, strict=True)
            for _ in range(start, end)
        ]
        assert cache.lengths() == fresh_cache.lengths() == lengths


def test_dropping_that_leaves_nothing() -> None:
    with pytest.raises(InputError, match="leave none"):
        prefill(
            model().language,
            prompt("v8.turn1"),
            KeyValues(),
            dropping=Dropping("uniform", (2,), (1, 0.001)),
        )


def test_closing_stops_within_one_token() -> None:
    cache = KeyValues()
    ids = generate(model().language, prompt("v8.turn1"), Decoding(), cache=cache)
    next(ids)
    next(ids)
    ids.close()
    assert len(cache.ids) == len(prompt("v8.turn1").ids) + 1


def test_threads_that_hand_a_generator_on() -> None:
    """Gradio advances a generator from any thread: neither it nor the thread may be changed."""
    ids = generate(model().language, prompt("v8.turn1"), Decoding(max_new_tokens=8))
    found: list[int] = []
    modes: list[bool] = []

    def advance() -> None:
        found.append(next(ids))
        modes.append(torch.is_inference_mode_enabled())

    for _ in range(8):
        thread = threading.Thread(target=advance)
        thread.start()
        thread.join()
    assert found == expected("v8.turn1.off.generated").tolist()[:8]
    assert modes == [False] * 8


def test_an_answer_ends_at_a_stop_token() -> None:
    golden = expected("v8.turn1.off.generated").tolist()
    last = golden[5]
    ids = generate(model().language, prompt("v8.turn1"), Decoding(stop_ids=(last,)))
    assert list(ids) == golden[: golden.index(last)]


def test_the_models_own_stop_tokens_end_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = expected("v8.turn1.off.generated").tolist()
    own = replace(model().config.generation, stop_ids=(golden[3],))
    monkeypatch.setattr(model(), "config", replace(model().config, generation=own))
    ids = model().answer(prompt("v8.turn1"), Decoding(stop_ids=(258,)))
    assert list(ids) == golden[: golden.index(golden[3])]


def sampled(seed: int | None, **changes: float) -> list[int]:
    decoding = Decoding(max_new_tokens=12, sample=True, seed=seed, **changes)  # type: ignore[arg-type]
    return list(generate(model().language, prompt("v8.turn1"), decoding))


def test_a_seed_repeats_an_answer() -> None:
    assert sampled(3, temperature=2.0, top_k=0, top_p=1.0) == sampled(
        3, temperature=2.0, top_k=0, top_p=1.0
    )
    answers = {tuple(sampled(seed, temperature=2.0, top_k=0, top_p=1.0)) for seed in range(4)}
    assert len(answers) == 4
    assert len({tuple(sampled(None, temperature=5.0, top_k=0, top_p=1.0)) for _ in range(3)}) > 1


def test_sampling_of_the_best_alone_is_greedy() -> None:
    assert sampled(1, top_k=1) == expected("v8.turn1.off.generated").tolist()
    assert sampled(2, top_p=0.001, top_k=0) == expected("v8.turn1.off.generated").tolist()


def test_shares_of_sampling() -> None:
    """Drawn often, tokens come as often as the softmax of the cut and tempered scores says."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])
    counts = torch.zeros(5)
    for seed in range(2000):
        decoding = Decoding(sample=True, temperature=2.0, top_k=3, top_p=1.0, seed=seed)
        counts[TokenChooser(decoding).choose(logits)] += 1
    shares = torch.tensor([1.0, 0.5, 0.0, -torch.inf, -torch.inf]).softmax(0)
    assert float((counts / 2000 - shares).abs().max()) < 0.04


def test_the_penalty_counts_the_answer_only() -> None:
    chooser = TokenChooser(Decoding(repetition_penalty=2.0))
    logits = torch.tensor([1.0, 0.9, -1.0])
    assert [chooser.choose(logits) for _ in range(3)] == [0, 1, 0]
    assert logits.tolist() == torch.tensor([1.0, 0.9, -1.0]).tolist()  # not written to


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", 0.0),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("repetition_penalty", 0.0),
    ],
)
def test_decoding_is_checked(field: str, value: float) -> None:
    with pytest.raises(InputError, match=field):
        Decoding(**{field: value})  # type: ignore[arg-type]


def test_a_checkpoints_own_decoding() -> None:
    """Greedy, and yet with the penalty, as the reference decodes."""
    own = Decoding.of(GenerationDefaults(repetition_penalty=1.1), max_new_tokens=5)
    assert (own.sample, own.repetition_penalty, own.max_new_tokens) == (False, 1.1, 5)
    assert own.stop_ids == (151645, 151643)


def test_prompts_are_checked() -> None:
    for ids, rows in (([1, VISUAL, 2], None), ([1, 2], features("v8")), ([VISUAL] * 2 + [1], None)):
        with pytest.raises(InputError, match="one place"):
            VideoPrompt(ids, rows)
    for ids, rows in (([], None), ([1, VISUAL], features("v8"))):
        with pytest.raises(InputError, match="end with text"):
            VideoPrompt(ids, rows)


def test_a_prompt_that_is_too_long_is_refused() -> None:
    """The reference cuts the question off without a word."""
    rows = torch.zeros(model().config.max_tokens, 64)
    with pytest.raises(InputError, match="32768 tokens at most, but are 32770"):
        model().answer(VideoPrompt([1, VISUAL, 2], rows), Decoding())


def test_the_whole_model_answers() -> None:
    ids: Iterator[int] = model().answer(
        prompt("v8.turn1"), Decoding(max_new_tokens=12), dropping=dropping("att")
    )
    assert list(ids) == expected("v8.turn1.att.generated").tolist()


def test_memory_of_a_conversation_is_known() -> None:
    cache = KeyValues()
    read = prefill(model().language, prompt("v8.turn1"), cache, dropping=dropping("att"))
    assert read.num_reused == 0
    held = sum(2 * length * 2 * 16 * 4 for length in cache.lengths())
    held += 128 * 64 * 4 + len(prompt("v8.turn1")) * 64 * 4
    assert held <= cache.num_bytes < 3 * held
    cache.clear()
    assert cache.num_bytes == 0
    assert given("v8.turn1.input_ids").tolist().count(VISUAL) == 1


def test_a_buffer_grows() -> None:
    cache = KeyValues()
    rows = torch.randn(1, 2, 700, 4)
    for start in range(0, 700, 7):
        part = rows[:, :, start : start + 7]
        keys, values = cache.update(part, part * 2, 0)
    assert torch.equal(keys, rows)
    assert torch.equal(values, rows * 2)
    cache.cut(0, 10)
    keys, _ = cache.update(rows[:, :, :1], rows[:, :, :1], 0)
    assert torch.equal(keys, torch.cat([rows[:, :, :10], rows[:, :, :1]], dim=2))


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"temperature": 1.0}, [0.1, 0.3, 0.6]),
        ({"temperature": 0.5}, [1 / 46, 9 / 46, 36 / 46]),
        ({"temperature": 1.0, "top_p": 0.85}, [0.0, 1 / 3, 2 / 3]),
        ({"temperature": 1.0, "top_k": 1}, [0.0, 0.0, 1.0]),
    ],
)
def test_tokens_are_drawn_as_often_as_asked_for(
    options: dict[str, Any], shares: list[float]
) -> None:
    decoding = Decoding(sample=True, seed=1, **{"top_k": 0, "top_p": 1.0, **options})
    chooser, logits = TokenChooser(decoding), torch.tensor([0.1, 0.3, 0.6]).log()
    draws = [chooser.choose(logits) for _ in range(1500)]
    found = np.bincount(draws, minlength=3) / len(draws)
    assert found == pytest.approx(shares, abs=0.05)
