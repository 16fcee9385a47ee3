"""Byte-level BPE tokenizers of the demo models, so that any text can be typed.

Words of the demo world become few tokens, other words fall into letters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from demo_models.language.unanswerable import DONT_KNOW

START, END = "<|startoftext|>", "<|endoftext|>"
OPT_END, OPT_PAD = "</s>", "<pad>"
QWEN2_PAD, QWEN2_START, QWEN2_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CLIP_MERGES, OPT_MERGES, QWEN2_MERGES = 448, 500, 640
MAX_CACHED = 200_000
MAX_TOKENS = 32
"""Of the texts of CLIP and ViCLIP."""

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pattern of words. Source: transformers, models/qwen2, Apache-2.0."""


def encode_by_length(texts: list[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
    """Return the rows (T, D) of texts, encoded in three parts by length to save padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    third = math.ceil(len(order) / 3)
    parts = [
        encode([texts[index] for index in order[start : start + third]])
        for start in range(0, len(order), third)
    ]
    return torch.cat(parts)[torch.tensor(order).argsort()]


def _train_merges(texts: list[str], num: int) -> list[tuple[str, str]]:
    """Learn BPE merges with the pre-tokenizer and normaliser that CLIP uses."""
    clip = CLIPTokenizer().backend_tokenizer
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = clip.normalizer
    trained.pre_tokenizer = clip.pre_tokenizer
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512 + num,
        end_of_word_suffix="</w>",
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    trained.train_from_iterator(texts, trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return [(first, second) for first, second in merges][:num]


def clip_tokenizer(texts: list[str], num_merges: int = CLIP_MERGES) -> CLIPTokenizer:
    """Train a stock CLIP tokenizer.

    The vocabulary is, as in CLIP, 256 bytes, 256 bytes that end a word, the merges and last
    the two special tokens, so that the end token has the highest id.

    Args:
        texts: The texts that the merges are learned from.
        num_merges: How many merges to learn.

    Returns:
        A tokenizer for up to `MAX_TOKENS` tokens.
    """
    letters = sorted(ByteLevel.alphabet())
    merges = _train_merges(texts, num_merges)
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [token for token in dict.fromkeys(a + b for a, b in merges) if token not in tokens]
    vocab = {token: index for index, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def _byte_bpe(backend: Tokenizer, texts: list[str], vocab_size: int, special: list[str]) -> None:
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)


def opt_tokenizer(texts: list[str], max_length: int) -> Any:
    """Train a byte-level BPE in OPT's form that reads lower case.

    "I don't know" is one token, so that its capital survives and one decision is enough to say it.
    """
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    _byte_bpe(backend, texts, 258 + OPT_MERGES, [OPT_END, OPT_PAD])
    backend.add_tokens([AddedToken(DONT_KNOW, normalized=False, lstrip=True)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{OPT_END} $A", special_tokens=[(OPT_END, backend.token_to_id(OPT_END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=OPT_END,
        eos_token=OPT_END,
        unk_token=OPT_END,
        pad_token=OPT_PAD,
        padding_side="left",
        model_max_length=max_length,
    )


def qwen2_tokenizer(texts: list[str], max_length: int) -> Any:
    """Train a byte-level BPE in Qwen2's form, with ChatML's special tokens, that reads lower case.

    "I don't know" is one token here too.
    """
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    _byte_bpe(backend, [*texts, "system\nuser\nassistant\n"], 256 + QWEN2_MERGES, [])
    special = (QWEN2_PAD, QWEN2_START, QWEN2_END)
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    backend.add_tokens([AddedToken(DONT_KNOW, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=QWEN2_END,
        pad_token=QWEN2_PAD,
        padding_side="right",
        model_max_length=max_length,
    )


class CachedEncoder:
    """A tokenizer without special tokens that encodes every text once."""

    def __init__(self, tokenizer: Any) -> None:
        """Start with an empty cache."""
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        if text not in self.known:
            if len(self.known) > MAX_CACHED:
                self.known.clear()
            self.known[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.known[text]
