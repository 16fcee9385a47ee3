"""Trains the demo CLIP's tokenizer: byte-level BPE, so any text can be typed."""

from __future__ import annotations

import json

import numpy as np
from tokenizers import Tokenizer, decoders, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from demo_models.language.statement_sampling import STATEMENT_KINDS, true_statement
from demo_models.world.scenes import sample_scene

START, END = "<|startoftext|>", "<|endoftext|>"
NUM_MERGES = 448
MAX_TOKENS = 32


def grammar_corpus(seed: int, num: int) -> list[str]:
    """Return true statements about `num` random scenes, each kind equally often."""
    rng = np.random.default_rng(seed)
    kinds = tuple(STATEMENT_KINDS)
    scenes = (sample_scene(rng) for _ in range(num))
    return [true_statement(rng, s, kinds[i % len(kinds)]).text for i, s in enumerate(scenes)]


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


def build_tokenizer(texts: list[str], num_merges: int = NUM_MERGES) -> CLIPTokenizer:
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
