"""Training texts of the demo BLIP-2, packed: all texts of one image in one sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo_models.language.question_wording import FRAME, FRAMES, PREFIXES
from demo_models.language.questions import Query, caption_text, make_query, phrase
from demo_models.language.statement_wording import pick
from demo_models.language.unanswerable import DONT_KNOW
from demo_models.training.tokenizers import CachedEncoder
from demo_models.world.scenes import Scene, sample_scene

CAPTION_SHARES = {"even": 0.2, "late": 0.12, "places": 0.04, "several": 0.12}
WORDS_OF_MIX = {"even": "first", "late": "first", "places": "first", "several": "all"}
HISTORY_SHARE = 0.1
MAX_PACKED = 144
"""Tokens of the texts of one image; texts that do not fit are left out."""

Rng = np.random.Generator


@dataclass(frozen=True)
class TextPair:
    """A prompt and the answer to write after it."""

    prompt: str
    answer: str
    about: tuple[int, ...] = ()
    """Indices of the one or two objects that the question names."""


@dataclass(frozen=True)
class PackedTexts:
    """The texts of B images after their image tokens; L is the longest sequence.

    `ids` (B, L) int64; `positions` (B, L) int64, each text goes on after the image tokens;
    `segments` (B, L) int64: which text a token belongs to, -1 for padding; `targets` (B, L)
    int64: the token to be written after this one, -100 for none; `weights` (B, L) float32: how
    much a target counts. A text of n targets counts sqrt(n), so that long captions do not drown
    answers of one word. `about` (B, 2, L) int64: where a target is to be written, the indices of
    the first and the last object that the question names, otherwise -1.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    targets: Tensor
    weights: Tensor
    about: Tensor


def _answer_without_scene(query: Query, background: str | None) -> str:
    """Return the answer about an image without objects; a blank page shows its colour."""
    if background is None:
        return DONT_KNOW
    if query.kind == "background":
        return background
    if query.kind == "count":
        return "zero"
    if query.kind == "describe":
        return f"a {background} background"
    if query.family in ("presence", "is a"):
        return "no"
    return DONT_KNOW


def _pair(rng: Rng, scene: Scene, background: str | None, is_scene: bool, mix: str) -> TextPair:
    query = make_query(rng, scene, mix=mix)
    assert query is not None
    answer = query.answer if is_scene else _answer_without_scene(query, background)
    about = query.about if is_scene else ()
    return TextPair(phrase(query, rng, WORDS_OF_MIX[mix]), answer, about)


def sample_text(
    rng: Rng, scene: Scene, background: str | None, is_scene: bool, mix: str = "even"
) -> TextPair:
    """Return one training text: a caption or a question, some after earlier questions.

    Args:
        rng: Source of randomness.
        scene: What the image shows, or for a non-scene any scene, to ask about.
        background: The name of the background, None where there is none.
        is_scene: False for images that do not show the scene.
        mix: One of `MIXES`: the later ones have fewer captions and more of what is hard.
    """
    if rng.random() < CAPTION_SHARES[mix]:
        query = Query("describe", "describe", caption_text(scene))
        answer = query.answer if is_scene else _answer_without_scene(query, background)
        prefix = pick(rng, PREFIXES) if answer != DONT_KNOW and rng.random() < 0.25 else ""
        return TextPair(prefix, answer)
    asked = _pair(rng, scene, background, is_scene, mix)
    if rng.random() >= HISTORY_SHARE:
        return replace(asked, prompt=pick(rng, FRAMES).format(asked.prompt))
    earlier = [_pair(rng, scene, background, is_scene, mix) for _ in range(int(rng.integers(1, 4)))]
    history = " ".join(f"{FRAME.format(turn.prompt)} {turn.answer}." for turn in earlier)
    return replace(asked, prompt=f"{history} {FRAME.format(asked.prompt)}")


def question_corpus(seed: int, num: int) -> list[str]:
    """Return the prompts and answers of `num` random texts; unanswerable questions are left out."""
    rng = np.random.default_rng([seed, 2])
    texts = []
    for _ in range(num):
        scene = sample_scene(rng)
        pair = sample_text(rng, scene, scene.background, True)
        if DONT_KNOW not in (pair.answer, pair.prompt):
            texts.append(f"{pair.prompt} {pair.answer}")
    return [text for text in texts if DONT_KNOW not in text]


class TextCoder(CachedEncoder):
    """Encoder of texts into the tokens that the stock processor makes of them."""

    def __call__(self, text: TextPair) -> tuple[list[int], list[int]]:
        """Return the tokens, and for each the token to be written after it or -100."""
        end = self.tokenizer.eos_token_id
        prompt = [self.tokenizer.bos_token_id, *self.encode(text.prompt)]
        answer = self.encode(f" {text.answer}" if text.prompt else text.answer)
        ids = [*prompt, *answer]
        return ids, [*[-100] * (len(prompt) - 1), *answer, end]


CHANNELS = {"ids": 0, "positions": 0, "segments": -1, "targets": -100, "first": -1, "last": -1}
"""Channels that `pack` writes for each token, with their values for padding."""


def _table(text: TextPair, coder: TextCoder, index: int, start: int) -> NDArray[np.int64]:
    """Return one text as (channels, its tokens), in the order of `CHANNELS`."""
    ids, targets = coder(text)
    named = (text.about[0], text.about[-1]) if text.about else (-1, -1)
    about = [np.where(np.array(targets) >= 0, name, -1) for name in named]
    return np.stack([ids, np.arange(len(ids)) + start, np.full(len(ids), index), targets, *about])


def pack(texts: list[list[TextPair]], coder: TextCoder, num_image_tokens: int) -> PackedTexts:
    """Lay the texts of each image one after another."""
    rows: list[list[NDArray[np.int64]]] = []
    for own in texts:
        parts: list[NDArray[np.int64]] = []
        for index, text in enumerate(own):
            part = _table(text, coder, index, num_image_tokens)
            if sum(earlier.shape[1] for earlier in parts) + part.shape[1] <= MAX_PACKED:
                parts.append(part)
        rows.append(parts)
    length = max(sum(part.shape[1] for part in parts) for parts in rows)
    weights = np.zeros((len(rows), length), dtype=np.float32)
    table = np.empty((len(CHANNELS), len(rows), length), dtype=np.int64)
    for channel, filler in enumerate(CHANNELS.values()):
        table[channel] = filler
    for row, parts in enumerate(rows):
        joined = np.concatenate(parts, axis=1)
        table[:, row, : joined.shape[1]] = joined
        each = [np.full(part.shape[1], (part[3] >= 0).sum() ** -0.5) for part in parts]
        weights[row, : joined.shape[1]] = np.concatenate(each)
    ids, positions, segments, targets, first, last = torch.from_numpy(table)
    about = torch.stack([first, last], dim=1)
    return PackedTexts(ids, positions, segments, targets, torch.from_numpy(weights), about)


def attention_mask(segments: Tensor, num_image_tokens: int) -> Tensor:
    """Return what each token may read: the image tokens and its own text so far.

    Args:
        segments: (B, L) int64, as in `PackedTexts`.
        num_image_tokens: How many tokens stand before the texts; they read one another
            from left to right, as in the stock model.

    Returns:
        (B, 1, I + L, I + L) bool.
    """
    num, length = segments.shape
    whole = torch.cat([torch.full((num, num_image_tokens), -2), segments], dim=1)
    same = whole[:, :, None] == whole[:, None, :]
    image = (whole == -2)[:, None, :].expand_as(same)
    causal = torch.ones(same.shape[1:], dtype=torch.bool).tril()
    return ((same | image) & causal)[:, None]
