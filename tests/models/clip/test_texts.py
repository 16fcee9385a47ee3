"""Texts become tokens and vectors: cleaned, cut and batched without changing an answer."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.compute.vector_cache import VectorCache
from pipelines.models.catalogue import CATALOGUE
from pipelines.models.clip import texts as module
from pipelines.models.clip.texts import TextEncoder, Tokenised, fill
from pipelines.models.text_cleaning import clean_text
from tests.fakes.tiny_clip import MAKERS

EXACT = 1e-5  # float32, other order of the same sums


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {key: make(root / key) for key, make in MAKERS.items()}


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> Iterator[dict[str, TextEncoder]]:
    yield {key: encoder(folder, key) for key, folder in folders.items()}


def encoder(folder: Path, key: str, tokenizer: Any = None) -> TextEncoder:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return TextEncoder(
        model, tokenizer, CATALOGUE[key].contrastive, VectorCache(folder / "v.sqlite", key)
    )


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("A Photo", "a photo"),
        ("  a \t\n photo\u3000of  ", "a photo of"),
        ("it’s “here”", 'it\'s "here"'),
        ("cafÃ©", "café"),
        ("fish &amp; chips &lt;3", "fish & chips <3"),
        ("&amp;amp;", "&"),
        ("ﬁne ｆｕｌｌ", "fine full"),
        ("\ufeffdog\x07", "dog"),
        ("ΣΟΦΟΣ", "σοφος"),
        ("红色的猫", "红色的猫"),
        ("\ud800dog", "\ufffddog"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_cleaning_as_clip_was_trained(raw: str, cleaned: str) -> None:
    assert clean_text(raw, "openai") == cleaned
    assert clean_text(cleaned, "openai") == cleaned


def test_other_models_get_less_cleaning() -> None:
    assert clean_text(" It’s  A ", "lower") == " it’s  a "
    assert clean_text(" It’s  A ", "none") == " It’s  A "


@pytest.mark.parametrize("key", MAKERS)
@pytest.mark.parametrize("text", ["dog", "dog " * 40, "dog " * 300, "红" * 200, "a.b" * 99, ""])
def test_cutting_equals_stock_truncation(
    key: str, text: str, encoders: dict[str, TextEncoder], folders: dict[str, Path]
) -> None:
    from transformers import AutoTokenizer

    limit = CATALOGUE[key].contrastive.max_text_tokens
    stock = AutoTokenizer.from_pretrained(folders[key])
    cleaned = clean_text(text, CATALOGUE[key].contrastive.cleaning)
    expected = stock(cleaned, truncation=True, max_length=limit)["input_ids"]
    found = encoders[key].tokenise([text])[0]
    assert list(found.ids) == expected
    assert found.cut == (len(stock(cleaned)["input_ids"]) > limit)


@pytest.mark.parametrize("key", MAKERS)
def test_threads_do_not_cut_one_another_s_texts(key: str, folders: dict[str, Path]) -> None:
    """Truncation is a state of the fast tokenisers: others' texts were cut without a note."""
    shared = encoder(folders[key], key)
    long, limit = ["dog " * 100, "cat " * 90], CATALOGUE[key].contrastive.max_text_tokens
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            for i in range(30):
                found = shared.tokenise([long[(seed + i) % 2], "a"])
                if not found[0].cut or len(found[0].ids) != limit or found[1].cut:
                    wrong.append(found)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert wrong == []


def test_truncation_saved_with_a_tokenizer_is_taken_off(folders: dict[str, Path]) -> None:
    """Some checkpoints were saved with it on, which would cut texts without a note."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders["clip-vit-b32"])
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=20)
    made = encoder(folders["clip-vit-b32"], "clip-vit-b32", tokenizer)
    assert len(made.tokenise(["one two three four five six"])[0].ids) == 8
    assert len(made.tokenise(["one"])[0].ids) == 3


@pytest.mark.parametrize("key", MAKERS)
def test_a_cut_is_noticed(key: str, encoders: dict[str, TextEncoder]) -> None:
    limit = CATALOGUE[key].contrastive.max_text_tokens
    word = "猫" if key == "chinese-clip-b16" else "dog "
    fits = next(n for n in range(limit, 0, -1) if not encoders[key].tokenise([word * n])[0].cut)
    given = ["dog", word * fits, word * (fits + 1), "", "dog" + " " * 9000 + "cat", "x" * 100_000]
    assert encoders[key].cut(given) == [False, False, True, False, True, True]
    assert encoders[key].cut([word * fits], ("{}", "a photo of a {} 。")) == [True]
    assert encoders[key].cut([]) == []


@pytest.mark.parametrize("key", MAKERS)
@pytest.mark.parametrize(
    "text",
    ["", " ", "\0", "\1\2\3", "\ud800", "dog \udfff", "�", "👩‍👩‍👧‍👦" * 50, "\u202eevil", "א" * 500,
     "<|endoftext|>", "<eos><pad>", "[SEP] [MASK]", "a\u0301" * 300, "x" * 5000, "{}", "%s"],
)  # fmt: skip
def test_any_text_has_a_unit_vector(key: str, text: str, encoders: dict[str, TextEncoder]) -> None:
    vectors = encoders[key].vectors([text], ("a photo of a {}.",))
    assert vectors.shape[0] == 1
    assert vectors.dtype == torch.float32
    assert vectors.norm(dim=-1).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("key", MAKERS)
def test_neither_order_nor_company_changes_a_vector(
    key: str, encoders: dict[str, TextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["dog " * n + "猫" for n in (30, 1, 7, 7, 60, 2, 12, 0, 45, 3)]
    tokens = encoders[key].tokenise(texts)
    together = encoders[key].encode(tokens)
    backwards = encoders[key].encode(tokens[::-1]).flip(0)
    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 1)
    alone = encoders[key].encode(tokens)
    assert torch.allclose(together, backwards, atol=EXACT)
    assert torch.allclose(together, alone, atol=EXACT)
    assert not torch.allclose(together[0], together[1], atol=1e-3), "the fixture tells apart"


@pytest.mark.parametrize("key", MAKERS)
def test_batches_are_bounded(
    key: str, encoders: dict[str, TextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 200)
    lengths = [3, 77, 5, 5, 20, 64, 3, 3, 3, 50, 40]
    tokens = [Tokenised(tuple(range(min(n, 52))), False) for n in lengths]
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index].ids))
    batches = encoders[key]._batches(order, tokens)
    assert sorted(sum(batches, [])) == list(range(len(tokens)))
    fixed = {"siglip2-b16": 64}.get(key)
    for batch in batches:
        widest = fixed or max(len(tokens[index].ids) for index in batch)
        assert widest * len(batch) <= 200


def test_templates_and_texts_are_not_mixed_up(folders: dict[str, Path]) -> None:
    """The key of a vector joined both with control characters, which a text may hold."""
    made = encoder(folders["clip-vit-b32"], "clip-vit-b32")
    kept = [
        made.vectors(["dog"], ("{} cat",)),
        made.vectors(["dog"], ("{}", "cat {}")),
        made.vectors(["b\1dog"], ("a{}",)),
        made.vectors(["dog"], ("a{}\1b",)),
        made.vectors(["dog\0cat"]),
        made.vectors(["dog"], ("{}\0cat",)),
    ]
    assert len(made._kept._memory) == len(kept)
    again = [made.vectors(["dog"], ("a{}\1b",)), made.vectors(["b\1dog"], ("a{}",))]
    assert again[0].equal(kept[3])
    assert again[1].equal(kept[2])


def test_a_text_that_comes_twice_is_computed_once(folders: dict[str, Path]) -> None:
    made, seen = encoder(folders["clip-vit-b32"], "clip-vit-b32"), []
    encode = made.encode
    made.encode = lambda tokens: (seen.append(len(tokens)), encode(tokens))[1]  # type: ignore[method-assign]
    vectors = made.vectors(["dog", "cat", "dog"], ("a {}", "the {}"))
    assert seen == [4]
    assert vectors[0].equal(vectors[2])
    assert made.vectors(["cat"], ("a {}", "the {}"))[0].equal(vectors[1])
    assert seen == [4]
    assert made.vectors([]).shape == (0, 0)


TEMPLATES = (
    "{}",
    "a photo of a {}.",
    "a photo of the {}",
    "the {} in a photo of a {}.",
    "photo-{}",
)
LABELS = ["dog", "猫", "black and white dog", "-", "of a", "s", "<|endoftext|> dog", "cat " * 90]


def test_prefixes_read_once_give_what_the_stock_model_gives(folders: dict[str, Path]) -> None:
    made = encoder(folders["clip-vit-b32"], "clip-vit-b32")
    prompts = [fill(template, label) for label in LABELS for template in TEMPLATES]
    tokens = made._mark_prefixes(made.tokenise(prompts), TEMPLATES)
    assert {token.prefix > 1 for token in tokens} == {True, False}
    assert not any(token.prefix for token in tokens[:: len(TEMPLATES)])
    assert not any(t.prefix for p, t in zip(prompts, tokens, strict=True) if "endoftext" in p)
    found = made.encode(tokens)
    for token, vector in zip(tokens, found, strict=True):
        features = made._model.get_text_features(torch.tensor([token.ids])).pooler_output
        expected = torch.nn.functional.normalize(features[0], dim=-1)
        assert torch.allclose(vector, expected, atol=EXACT)


def test_the_opening_of_a_cut_text_is_the_template_s(folders: dict[str, Path]) -> None:
    made = encoder(folders["clip-vit-b32"], "clip-vit-b32")
    [token] = made._mark_prefixes(
        made.tokenise(["a photo of a " + "cat " * 99]), ("a photo of a {}",)
    )
    assert token.cut
    assert token.prefix == len(made.tokenise(["a photo of a"])[0].ids) - 1


def test_few_prefixes_are_kept(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.models.clip.prefix_cache.NUM_KEPT", 2)
    made = encoder(folders["clip-vit-b32"], "clip-vit-b32")
    templates = ("a {}", "the {}", "one {}", "my {}", "a photo of {}")
    first = made.vectors(["dog"], templates)
    assert made._prefixes is not None
    assert len(made._prefixes._kept) == 2
    assert torch.allclose(made.vectors(["dog", "cat"], templates)[0], first[0], atol=EXACT)


@pytest.mark.parametrize("key", ["siglip2-b16", "chinese-clip-b16"])
def test_towers_that_look_ahead_read_every_text_whole(
    key: str, encoders: dict[str, TextEncoder]
) -> None:
    made = encoders[key]
    tokens = made.tokenise(["a photo of a dog"])
    assert made._mark_prefixes(tokens, ("a photo of a {}",)) == tokens
