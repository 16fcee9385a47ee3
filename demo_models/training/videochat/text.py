"""Dialogues about videos, encoded and packed for training.

All dialogues about a video stand in one sequence behind its visual tokens. A mask separates them,
so that the loss is that of the model dialogue by dialogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo_models.language.dialogues import Turn, sample_dialogue
from demo_models.language.video_facts import facts_of
from demo_models.training.tokenizers import QWEN2_END, QWEN2_START, CachedEncoder
from demo_models.training.videochat.data import NUM_FRAMES
from demo_models.world.motion_sampling import sample_motion
from pipelines.models.videochat_flash.kv_cache import VISUAL
from pipelines.models.videochat_flash.processing_videochat_flash import (
    chat_prompt,
    encode_prompt,
    first_question,
    time_message,
)

SHARED, PADDING = -2, -1  # segments besides the number of a conversation
NO_OBJECT = -1


def dialogue_corpus(seed: int, num: int) -> list[str]:
    """Return the prompts and answers of `num` random dialogues, without unanswerable questions."""
    rng = np.random.default_rng([seed, 33])
    texts = []
    for _ in range(num):
        facts = facts_of(sample_motion(rng))
        for turn in sample_dialogue(rng, facts, 2, "even"):
            if turn.kind != "strange":
                texts.append(f"{time_message(3.5, NUM_FRAMES)} {turn.question} {turn.answer}")
    return texts


@dataclass(frozen=True)
class PackedDialogues:
    """The conversations about V videos behind their n rows; L is the longest of them.

    `before` (p,) int64: tokens before the rows, the same for all videos; of the tokens after the
    rows, (V, L) each: `ids` int64; `positions` int64; `segments` int64: the conversation,
    `SHARED` or `PADDING`; `targets` int64: the token to be written after this one, -100 for
    none; `weights` float32: how much a target counts. An answer of k tokens counts sqrt(k).
    `about` int64: where a target is, the object that is spoken of, `NO_OBJECT` where none is.
    """

    before: Tensor
    ids: Tensor
    positions: Tensor
    segments: Tensor
    targets: Tensor
    weights: Tensor
    about: Tensor


class CodedTurns(NamedTuple):
    """Tokens, what follows each or -100, weights, and the object spoken of, as in the packed."""

    ids: list[int]
    targets: list[int]
    weights: list[float]
    about: list[int]


class DialogueCoder(CachedEncoder):
    """Encoder of dialogues into the tokens that the checkpoint's own code makes of them."""

    def __init__(self, tokenizer: Any) -> None:
        """Encode the parts that all prompts share."""
        super().__init__(tokenizer)
        self.end = int(tokenizer.convert_tokens_to_ids(QWEN2_END))
        self.to_answer = self.encode(f"{QWEN2_END}\n{QWEN2_START}assistant\n")
        self.to_question = self.encode(f"{QWEN2_END}\n{QWEN2_START}user\n")[1:]
        prompt = encode_prompt(tokenizer, chat_prompt([], first_question("")))
        self.before = prompt[: prompt.index(VISUAL)]

    def message(self, duration_s: float) -> list[int]:
        """Return the tokens between the rows and the first question."""
        return self.encode(f"\n{time_message(duration_s, NUM_FRAMES)}")

    def __call__(self, turns: list[Turn]) -> CodedTurns:
        """Return the tokens from the first question on."""
        ids: list[int] = []
        targets: list[int] = []
        weights: list[float] = []
        about: list[int] = []
        for number, turn in enumerate(turns):
            text = turn.question if number else f" {turn.question}"
            asked = [*(self.to_question if number else []), *self.encode(text), *self.to_answer]
            answer = [*self.encode(turn.answer), self.end]
            # the last token of the question predicts the first one of the answer
            ids += [*asked, *answer]
            targets += [*[-100] * (len(asked) - 1), *answer, -100]
            weights += [len(answer) ** -0.5] * (len(asked) + len(answer))
            whom = NO_OBJECT if turn.about is None else turn.about
            about += [NO_OBJECT] * (len(asked) - 1) + [whom] * len(answer) + [NO_OBJECT]
        return CodedTurns(ids, targets, weights, about)


def pack(
    dialogues: list[list[list[Turn]]],
    durations_s: list[float],
    coder: DialogueCoder,
    num_rows: int,
    max_tokens: int,
) -> PackedDialogues:
    """Lay the conversations about each video one after another.

    Args:
        dialogues: of each video.
        durations_s: of each video.
        coder: of the tokenizer.
        num_rows: that stand for a video.
        max_tokens: after the rows; conversations that do not fit are left out.
    """
    start = len(coder.before) + num_rows
    columns: list[list[NDArray[np.float64]]] = []
    for own, duration in zip(dialogues, durations_s, strict=True):
        shared = coder.message(duration)
        none = [-100] * len(shared)
        header = CodedTurns(shared, none, [0.0] * len(shared), [NO_OBJECT] * len(shared))
        parts = [_part(header, SHARED, start)]
        used = len(shared)
        for number, turns in enumerate(own):
            coded = coder(turns)
            if used + len(coded.ids) <= max_tokens:
                parts.append(_part(coded, number, start + len(shared)))
                used += len(coded.ids)
        columns.append(parts)
    joined = [np.concatenate(parts, axis=1) for parts in columns]
    longest = max(part.shape[1] for part in joined)
    table = np.zeros((6, len(joined), longest))
    table[2], table[3], table[4] = PADDING, -100, NO_OBJECT
    for row, part in enumerate(joined):
        table[:, row, : part.shape[1]] = part
    whole = torch.from_numpy(table)
    ids, positions, segments, targets, about = whole[:5].long()
    before = torch.tensor(coder.before)
    return PackedDialogues(before, ids, positions, segments, targets, whole[5].float(), about)


def _part(coded: CodedTurns, segment: int, start: int) -> NDArray[np.float64]:
    number = len(coded.ids)
    positions = np.arange(start, start + number)
    segments = np.full(number, segment)
    return np.stack([coded.ids, positions, segments, coded.targets, coded.about, coded.weights])


def attention_mask(segments: Tensor, num_before: int) -> Tensor:
    """Return (V, 1, L', L') bool, True where a token may look; L' = `num_before` + L.

    Tokens look back at what is shared and at their own conversation.
    """
    shared = torch.full((len(segments), num_before), SHARED)
    whole = torch.cat([shared, segments], dim=1)
    same = whole[:, :, None] == whole[:, None, :]
    seen = (whole == SHARED)[:, None, :].expand_as(same)
    causal = torch.ones(same.shape[1:], dtype=torch.bool).tril()
    return ((same | seen) & causal)[:, None]
