"""Merged tokens of the training videos from the frozen tower, cached for the language stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from demo_models.language.video_facts import Facts, facts_of
from demo_models.training.checkpoints import cached
from demo_models.training.videochat.data import (
    MAX_OBJECTS,
    NUM_CLIPS,
    ObjectTables,
    VideoCache,
    combine_tables,
    flipped_motion,
)
from demo_models.training.videochat.initialisation import NUM_HEADS, WIDTH, encode
from demo_models.training.videochat.labels import merge_with, merged_owner, owner_masses
from demo_models.training.videochat.tower import MERGED, random_flips, video_batch
from demo_models.world.motion import EVENT_KINDS
from demo_models.world.vocabulary import COLOURS, SHAPES
from pipelines.models.videochat_flash.modeling_internvideo2 import InternVideo2Tower

BATCH = 16


@dataclass(frozen=True)
class FeatureCache:
    """Merged tokens of V videos, n = 128 each, in the order in which the language model reads them.

    `tokens` (V, n, C) float16; `owners` (V, n) uint8: the object that a token is of, or
    `MAX_OBJECTS` and above; `facts` and `tables` of the videos as they were turned.
    """

    tokens: NDArray[np.float16]
    owners: NDArray[np.uint8]
    facts: list[Facts]
    tables: ObjectTables


@torch.no_grad()
def encode_all(tower: InternVideo2Tower, cache: VideoCache, seed: int) -> FeatureCache:
    """Encode every video once, turned at random."""
    number = len(cache.motions)
    tokens = np.zeros((number, NUM_CLIPS * MERGED, WIDTH), dtype=np.float16)
    owners = np.zeros(tokens.shape[:2], dtype=np.uint8)
    facts: list[Facts] = []
    tables: list[ObjectTables] = []
    rng = np.random.default_rng([seed, 34, 0])
    for start in range(0, number, BATCH):
        rows = np.arange(start, min(number, start + BATCH))
        flips = random_flips(rng, len(rows))
        pixels, labels, table = video_batch(cache, rows, flips)
        merged, masses = merge_with(encode(tower, pixels), owner_masses(labels), NUM_HEADS, MERGED)
        tokens[rows] = merged.half().view(len(rows), -1, WIDTH).numpy()
        owners[rows] = merged_owner(masses).view(len(rows), -1).numpy()
        motions = [cache.motions[int(row)] for row in rows]
        facts += [facts_of(flipped_motion(*pair)) for pair in zip(motions, flips, strict=True)]
        tables.append(table)
    return FeatureCache(tokens, owners, facts, combine_tables(np.concatenate, tables))


def load_or_make_features(
    data: Path, tower: InternVideo2Tower, cache: VideoCache, seed: int
) -> FeatureCache:
    """Return the encoded videos, made and written into the folder `data` at the first call."""
    folder = data / f"rows-{seed}-{len(cache.motions)}"
    return cached(folder, lambda _: encode_all(tower, cache, seed))


class FeatureHeads(nn.Module):
    """Linear heads on the hidden states of visual tokens; they are discarded after training.

    A token of an object predicts its name and its events: in the first clip those of the clip, in
    the second, which may look back, those of the whole video. So the
    language model brings the two clips together before a question is asked.
    """

    def __init__(self, width: int) -> None:
        """Make the heads for rows of `width` channels."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.colour = nn.Linear(width, len(COLOURS))
        self.events = nn.ModuleList(nn.Linear(width, len(EVENT_KINDS)) for _ in range(NUM_CLIPS))
        self.place = nn.Linear(width, 4)

    def forward(self, hidden: Tensor, rows: NDArray[np.int64], cache: FeatureCache) -> Tensor:
        """Return the loss of hidden states (V, n, D) of the videos `rows` (V,)."""
        hidden = self.norm(hidden)
        owner = torch.from_numpy(cache.owners[rows].astype(np.int64))
        tables = cache.tables
        shape = torch.from_numpy(tables.shape[rows])
        empty = owner == MAX_OBJECTS
        nothing = torch.full((int(empty.sum()),), len(SHAPES))
        loss = 0.3 * functional.cross_entropy(self.shape(hidden[empty]), nothing)
        video, place = (owner < MAX_OBJECTS).nonzero(as_tuple=True)
        item, mine = owner[video, place], hidden[video, place]
        colour = torch.from_numpy(tables.colour[rows][:, :, 0])
        loss += 0.5 * functional.cross_entropy(self.shape(mine), shape[video, item])
        loss += 0.5 * functional.cross_entropy(self.colour(mine), colour[video, item])
        first = torch.from_numpy(tables.actions[rows][:, :, 0].astype(np.float32))
        whole = torch.from_numpy(tables.events[rows].astype(np.float32))
        for clip, wanted in enumerate((first, whole)):
            here = place // MERGED == clip
            predicted = self.events[clip](mine[here])
            truth = wanted[video[here], item[here]]
            each = functional.binary_cross_entropy_with_logits(
                predicted, truth.clamp(min=0), reduction="none"
            )
            asked = truth >= 0
            loss += 2.0 * (each * asked).sum() / asked.sum().clamp(min=1)
        ends = tables.track[rows][:, :, [0, -1], :2]
        track = torch.from_numpy(ends.reshape(len(rows), MAX_OBJECTS, 4))
        end = place // MERGED == 1
        error = functional.smooth_l1_loss(
            self.place(mine[end]), track[video[end], item[end]], beta=0.1
        )
        return loss + 2 * error


def attention_loss(attention: Tensor, about: Tensor, owners: Tensor) -> Tensor:
    """Return the loss of attention from the tokens of an answer to those of the object asked about.

    Args:
        attention: (V, heads, L, n), how much each token looks at each row; the first head is the
            one that is to point.
        about: (V, L) int64, as in `PackedDialogues`.
        owners: (V, n) int64, as in `FeatureCache`.
    """
    video, token = (about >= 0).nonzero(as_tuple=True)
    wanted = owners[video] == about[video, token][:, None]
    shares = (attention[video, 0, token] * wanted).sum(dim=1)[wanted.any(dim=1)]
    return -(shares + 1e-3).log().mean() if len(shares) else attention.new_zeros(())
