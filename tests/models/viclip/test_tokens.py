"""Texts become the reference's ids, wherever the vocabulary comes from."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch

from pipelines.core.errors import WeightsError
from pipelines.models.viclip.tokens import (
    BUNDLED_MERGES,
    GZIPPED_VOCABULARY,
    ViClipTokeniser,
    tokenizer_of_merges,
)
from tests.fakes.tiny_clip import FIXTURES
from tests.support.viclip_golden import golden, golden_json

ROWS = golden_json("tokenizer_table")["rows"]
TEXTS = [row["text"] for row in ROWS]


def make(folder: Path, context_length: int = 32, vocab_size: int = 49408) -> ViClipTokeniser:
    return ViClipTokeniser.of_folder(folder, context_length=context_length, vocab_size=vocab_size)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> ViClipTokeniser:
    return make(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("context_length", [32, 77])
def test_ids_equal_the_reference(context_length: int, tmp_path: Path) -> None:
    assert len(ROWS) == 70
    found = make(tmp_path, context_length).tokenise(TEXTS)
    expected = [row[f"input_ids_{context_length}"] for row in ROWS]
    for text, ours, theirs in zip(TEXTS, found.input_ids.tolist(), expected, strict=True):
        assert ours == theirs, text
    assert list(found.cut) == [len(row["ids"]) > context_length - 2 for row in ROWS]
    assert any(found.cut)


def test_the_recorded_inputs(bundled: ViClipTokeniser) -> None:
    found = bundled.tokenise(golden_json("texts")["texts"])
    assert found.input_ids.equal(golden("inputs")["input_ids"].long())
    assert [index for index, cut in enumerate(found.cut) if cut] == [11]


def test_all_of_clip_s_own_table(bundled: ViClipTokeniser) -> None:
    reference = json.loads((FIXTURES / "clip_tokenizer/reference_ids.json").read_text("utf-8"))
    rows = reference["rows"] if isinstance(reference, dict) else reference
    long = ViClipTokeniser(bundled._tokenizer, 2000)
    for row in rows:
        found = long.tokenise([row["text"]]).input_ids[0].tolist()
        assert found == [49406, *row["ids"], 49407], row["text"]
    assert len(rows) == 257


def test_padding_is_as_short_as_it_can_be(bundled: ViClipTokeniser) -> None:
    assert bundled.tokenise(["", ""]).input_ids.tolist() == [[49406, 49407]] * 2
    mixed = bundled.tokenise(["!", "a dog runs"])
    assert mixed.input_ids.tolist() == [[49406, 256, 49407, 0, 0], [49406, 320, 1929, 5586, 49407]]
    assert mixed.input_ids.dtype == torch.int64


def test_a_cut_is_told_at_the_limit(bundled: ViClipTokeniser) -> None:
    found = bundled.tokenise(["dog " * 30, "dog " * 31, "dog" + " " * 5000 + "cat"])
    assert found.cut == (False, True, True)
    assert found.input_ids[0].equal(found.input_ids[1])
    assert found.input_ids.shape == (3, 32)
    assert found.input_ids[:2, -1].tolist() == [49407, 49407]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("<|endoftext|>", 1),
        ("a<|endoftext|>b", 1),
        ("what?<|endoftext|>", 0),
        ("-<|StartOfText|>", 0),
        ("<|endoftext|><|endoftext|>", 2),
        ("it's<|endoftext|>", 1),
        ("a.<|endoftext|> <|endoftext|>", 1),
    ],
)
def test_special_tokens_spelled_out(bundled: ViClipTokeniser, text: str, count: int) -> None:
    """Right after punctuation the reference reads one as more punctuation; stock does not."""
    inner = bundled.tokenise([text]).input_ids[0].tolist()[1:-1]
    assert sum(token >= 49406 for token in inner) == count


def test_the_vocabulary_may_come_in_every_form(tmp_path: Path, bundled: ViClipTokeniser) -> None:
    zipped, stock, saved = (tmp_path / name for name in ("zipped", "stock", "saved"))
    zipped.mkdir()
    merges = BUNDLED_MERGES.read_text("utf-8").rstrip("\n")
    with gzip.open(zipped / GZIPPED_VOCABULARY, "wt", encoding="utf-8") as file:
        file.write(merges + "\nsome more\nthat are unused\n")  # as the published file goes on
    shutil.copytree(FIXTURES / "clip_tokenizer", stock)
    bundled._tokenizer.save_pretrained(saved)
    (saved / "vocab.json").unlink(missing_ok=True)
    assert (saved / "tokenizer.json").is_file()
    expected = bundled.tokenise(TEXTS).input_ids
    for folder in (zipped, stock, saved):
        assert make(folder).tokenise(TEXTS).input_ids.equal(expected), folder.name


def test_the_built_vocabulary_is_the_published_one(bundled: ViClipTokeniser) -> None:
    published = json.loads((FIXTURES / "clip_tokenizer/vocab.json").read_text("utf-8"))
    assert bundled._tokenizer.get_vocab() == published


def test_truncation_saved_with_a_vocabulary_is_taken_off(bundled: ViClipTokeniser) -> None:
    merges = [tuple(line.split(" ")) for line in BUNDLED_MERGES.read_text("utf-8").split("\n")[1:9]]
    small = tokenizer_of_merges(merges)
    small.backend_tokenizer.enable_truncation(4)
    small.backend_tokenizer.enable_padding(length=20)
    made = ViClipTokeniser(small, 32)
    assert made.tokenise(["a b c d e f"]).input_ids.shape == (1, 8)


def test_a_foreign_or_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="before id 600"):
        make(tmp_path, vocab_size=600)
    (tmp_path / GZIPPED_VOCABULARY).write_bytes(b"no gzip at all")
    with pytest.raises(WeightsError, match="vocabulary .* cannot be read"):
        make(tmp_path)
    (tmp_path / GZIPPED_VOCABULARY).write_bytes(gzip.compress(b"version\na b\nc d\n"))
    with pytest.raises(WeightsError, match="vocabulary .* cannot be read"):
        make(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(WeightsError, match="vocabulary .* cannot be read"):
        make(tmp_path)
