"""Tokenisation of texts as in ViCLIP's training: cleaned, at most 32 tokens, padded with 0."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex
import torch

from pipelines.core.errors import WeightsError
from pipelines.models.text_cleaning import MAX_TEXT_CHARS, clean_text

#: Vocabulary file of the published repositories.
GZIPPED_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"

#: The same merges, for checkpoints that come without a vocabulary.
BUNDLED_MERGES = Path(__file__).parent / "merges.txt"

START, END = "<|startoftext|>", "<|endoftext|>"
PAD_ID = 0
NUM_MERGES = 48_894

#: Pieces that CLIP's encoding never crosses, in order of preference.
_PIECES = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


@dataclass(frozen=True)
class TokenisedTexts:
    """Token ids, (N, L) int64 padded with 0, and whether each text was cut."""

    input_ids: torch.Tensor
    cut: tuple[bool, ...]


class ViClipTokeniser:
    """CLIP's cleaning and byte-pair encoding."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        """Wrap a stock `CLIPTokenizer`; rows are at most `context_length` long."""
        self.context_length = context_length
        self._tokenizer = tokenizer
        self._start, self._end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
        self._whole([""])  # removes the truncation that a tokeniser may have been saved with

    @classmethod
    def of_folder(cls, folder: Path, *, context_length: int, vocab_size: int) -> "ViClipTokeniser":
        """Read the vocabulary of a checkpoint's folder, or the bundled one if it has none.

        Raises:
            WeightsError: the vocabulary is damaged, or larger than the model's.
        """
        from transformers import CLIPTokenizer

        try:
            if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
                tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            else:
                tokenizer = tokenizer_of_merges(_read_merges(folder))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(
                "The vocabulary of this ViCLIP model cannot be read: the file is damaged. Delete "
                "it so that it is fetched again."
            ) from error
        largest = max(tokenizer.get_vocab().values())
        if largest >= vocab_size or tokenizer.eos_token_id != largest:
            raise WeightsError(
                "The vocabulary of this ViCLIP model must end with {end} before id {limit}, "
                "but its largest id is {largest} and {end} is {id}. It belongs to another "
                "model.",
                end=END,
                limit=vocab_size,
                largest=largest,
                id=tokenizer.eos_token_id,
            )
        return cls(tokenizer, context_length)

    def tokenise(self, texts: Sequence[str]) -> TokenisedTexts:
        """Clean and tokenise at least one text; longer ones are cut before their end token."""
        rows = self._whole([clean_text(text, "openai") for text in texts])
        limit = self.context_length
        cut = tuple(
            len(row) > limit or len(text) > MAX_TEXT_CHARS
            for row, text in zip(rows, texts, strict=True)
        )
        rows = [row if len(row) <= limit else [*row[: limit - 1], self._end] for row in rows]
        length = max(len(row) for row in rows)
        padded = [row + [PAD_ID] * (length - len(row)) for row in rows]
        return TokenisedTexts(torch.tensor(padded, dtype=torch.int64), cut)

    def _whole(self, cleaned: list[str]) -> list[list[int]]:
        """Return the ids of whole texts; truncation would be a state shared by threads."""
        ids: list[list[int]] = self._tokenizer(cleaned, verbose=False)["input_ids"]
        for index, text in enumerate(cleaned):
            if START in text or END in text:
                ids[index] = self._with_literal_tokens(text)
        return ids

    def _with_literal_tokens(self, text: str) -> list[int]:
        """Return the ids of a text that contains a special token's name.

        The stock tokeniser finds it anywhere, the reference only where a word may begin: after
        punctuation it is punctuation. Encoding does not cross these pieces.
        """
        pieces = _PIECES.findall(text)
        rows = self._tokenizer(pieces, add_special_tokens=False, verbose=False)["input_ids"]
        return [self._start, *(token for row in rows for token in row), self._end]


def tokenizer_of_merges(merges: list[tuple[str, str]]) -> Any:
    """Return a stock `CLIPTokenizer` with the vocabulary that the merges define.

    Ids are the 256 bytes as symbols, the same at a word's end, the merges in order, then the
    start and the end token.

    Source: openai/CLIP clip/simple_tokenizer.py, MIT; differs: only the table is built here.
    """
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    symbols = bytes_to_unicode().values()  # printable bytes first, in CLIP's order
    words = [*symbols, *(symbol + "</w>" for symbol in symbols)]
    words += [first + second for first, second in merges] + [START, END]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=merges)


def _read_merges(folder: Path) -> list[tuple[str, str]]:
    gzipped = folder / GZIPPED_VOCABULARY
    if gzipped.is_file():
        with gzip.open(gzipped, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    else:
        lines = BUNDLED_MERGES.read_text("utf-8").split("\n")
    merges = []
    for line in lines[1 : 1 + NUM_MERGES]:  # a version line first; CLIP leaves the rest unused
        first, second = line.split(" ")
        merges.append((first, second))
    if len(merges) != NUM_MERGES:
        raise ValueError(f"{NUM_MERGES} merges were expected but got {len(merges)}")
    return merges
