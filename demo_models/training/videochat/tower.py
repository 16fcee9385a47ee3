"""The vision tower of the demo VideoChat-Flash: the demo CLIP's first layers, then two new ones.

It is of the kind InternVideo2, whose positions are weights: those of UMT are a fixed table from
which the column of a patch cannot be read (NOTES.md).

The tower attends over four frames at once, so that it sees what moves within them. It is trained
with the dense labels of `labels.py` and then frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo_models.training import loop
from demo_models.training.videochat.data import (
    CLIP_FRAMES,
    GRID,
    Flip,
    ObjectTables,
    VideoCache,
    combine_tables,
    flipped_owners,
    flipped_pixels,
    flipped_tables,
)
from demo_models.training.videochat.initialisation import (
    FROZEN_BLOCKS,
    NUM_HEADS,
    WIDTH,
    add_time_codes,
    blocks_of,
    clips_of,
    encode,
    scale_stream,
    warm_start,
)
from demo_models.training.videochat.labels import (
    NO_OWNER,
    ClipLabels,
    TokenHeads,
    clip_labels,
    history_loss,
    merge_loss,
    merge_with,
    merged_loss,
    merged_owner,
    owner_masses,
    patch_loss,
)
from pipelines.models.videochat_flash.modeling_internvideo2 import InternVideo2Tower

MERGED = 64


@dataclass(frozen=True)
class TowerStage:
    """One stage of the tower; each starts with new heads and optimizers."""

    steps: int
    horizon: int = 10**9  # the step at which the rates, falling linearly from 1, would be 0
    flat: int = 0  # steps before they begin to fall
    head_steps: int = 0  # in which the new heads alone are trained
    moving: bool = False  # it learns motion too, beginning with `add_time_codes`

    def rate(self, step: int, warmup: int) -> float:
        """Return the factor on the learning rates."""
        return loop.constant_then_linear(step, warmup, self.flat, self.horizon)


@dataclass(frozen=True)
class TowerRecipe:
    """The recipe of the tower in numbers."""

    stages: tuple[TowerStage, ...] = (
        TowerStage(600, horizon=900, flat=450),
        TowerStage(1000, horizon=1000, flat=600, head_steps=60, moving=True),
    )
    videos: int = 12  # of a batch
    muon_rate: float = 0.01
    adam_rate: float = 1e-3
    warmup: int = 40
    merge_weight: float = 0.5

    @property
    def steps(self) -> int:
        """Return the steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def video_batch(
    cache: VideoCache, rows: NDArray[np.int64], flips: list[Flip]
) -> tuple[Tensor, ClipLabels, ObjectTables]:
    """Return clips (V * 2, 4, 3, S, S), their labels, and the tables of the V turned videos."""
    pairs = list(zip(rows.tolist(), flips, strict=True))
    pixels = np.stack([flipped_pixels(cache.pixels[row], flip) for row, flip in pairs])
    owners = np.stack([flipped_owners(cache.owners[row], flip) for row, flip in pairs])
    tables = combine_tables(
        np.stack, [flipped_tables(cache.tables, row, flip) for row, flip in pairs]
    )
    backgrounds = [cache.motions[row].page.background for row in rows]
    return clips_of(pixels), clip_labels(owners, tables, backgrounds), tables


def random_flips(rng: np.random.Generator, num: int) -> list[Flip]:
    """Return `num` turnings, each of the four as likely."""
    return [Flip(bool(rng.random() < 0.5), bool(rng.random() < 0.5)) for _ in range(num)]


@torch.no_grad()
def figures(
    heads: TokenHeads, tokens: Tensor, masses: Tensor, labels: ClipLabels
) -> dict[str, float]:
    """Return accuracies on merged tokens, and the share of objects with tokens of their own."""
    owner = merged_owner(masses)
    clip, place = (owner < NO_OWNER).nonzero(as_tuple=True)
    item, mine = owner[clip, place], tokens[clip, place]
    actions = labels.actions[clip, item]
    predicted, asked = heads.actions(mine) > 0, actions >= 0
    done = actions == 1
    way = heads.way(mine).unflatten(1, (CLIP_FRAMES, 3)) - labels.track[clip, item, :, :3]
    there = labels.track[clip, item, :, 3] > 0
    seen = labels.track[..., 3].sum(dim=2) >= 1
    seen &= labels.shape >= 0
    held = torch.zeros(len(owner), NO_OWNER + 2, dtype=torch.bool)
    held.scatter_(1, owner, True)
    return {
        "shape": (heads.shape(mine).argmax(-1) == labels.shape[clip, item]).float().mean().item(),
        "colour": (heads.colours[1](mine).argmax(-1) == labels.colour[clip, item, -1])
        .float()
        .mean()
        .item(),
        "way_rms": way[there][:, :2].square().mean().sqrt().item(),
        "done": predicted[done].float().mean().item(),
        "not_done": (~predicted)[asked & ~done].float().mean().item(),
        "objects_held": held[:, :NO_OWNER][seen].float().mean().item(),
        "count": (heads.count(tokens).argmax(-1) == labels.count[:, None]).float().mean().item(),
    }


def train_tower(
    tower: InternVideo2Tower, cache: VideoCache, seed: int, recipe: TowerRecipe, index: int
) -> None:
    """Train the tower in place for one stage, by its index."""
    stage = recipe.stages[index]
    rng = np.random.default_rng([seed, 32, index])
    torch.manual_seed(seed + index)
    if stage.moving:
        add_time_codes(tower, first_clips(cache))
        tower.requires_grad_(False)
        for block in blocks_of(tower)[FROZEN_BLOCKS:]:
            block.requires_grad_(True)
    scale = 1 / deviation(tower, cache)
    patch_heads, merged_heads = TokenHeads(WIDTH), TokenHeads(WIDTH)
    last: dict[str, Any] = {}

    def compute(step: int) -> dict[str, Tensor]:
        rows = rng.integers(0, len(cache.motions), recipe.videos)
        pixels, labels, _ = video_batch(cache, rows, random_flips(rng, recipe.videos))
        tokens = scale * encode(tower, pixels)
        if step < stage.head_steps:
            tokens = tokens.detach()
        merged, masses = merge_with(tokens, owner_masses(labels), NUM_HEADS, MERGED)
        last.update(tokens=merged.detach(), masses=masses, labels=labels)
        losses = {
            "patches": patch_loss(patch_heads, tokens, labels),
            "merged": merged_loss(merged_heads, merged, masses, labels),
            "alike": recipe.merge_weight * merge_loss(tokens, labels.owner, NUM_HEADS),
        }
        if stage.moving:
            losses["history"] = history_loss(patch_heads, tokens, labels)
        return losses

    settings = loop.Loop(
        name=f"videochat tower {index}",
        steps=stage.steps,
        rate=lambda step: stage.rate(step, recipe.warmup),
        figures=lambda: figures(merged_heads, **last),
    )
    hidden, rest = loop.split_parameters(tower, (".blocks.",))
    parameters = [*rest, *patch_heads.parameters(), *merged_heads.parameters()]
    rates = recipe.muon_rate, recipe.adam_rate
    optimizers = loop.make_optimizers(hidden, parameters, *rates, betas=(0.9, 0.999))
    loop.run(settings, optimizers, compute)


def first_clips(cache: VideoCache) -> Tensor:
    """Return clips of the first videos, to measure sizes of tokens."""
    return clips_of(np.array(cache.pixels[:16]))


@torch.no_grad()
def deviation(tower: InternVideo2Tower, cache: VideoCache) -> float:
    """Return the standard deviation of the tower's tokens."""
    return encode(tower, first_clips(cache)).std().item()


def make_tower(
    tower: InternVideo2Tower, clip_folder: Path, cache: VideoCache, seed: int, recipe: TowerRecipe
) -> None:
    """Warm-start and train the tower; the result depends on the arguments alone.

    At the end the stream is scaled so that tokens have about deviation 1.
    """
    assert tower.config.grid == GRID
    warm_start(clip_folder, tower, first_clips(cache))
    for index in range(len(recipe.stages)):
        train_tower(tower, cache, seed, recipe, index)
    scale_stream(tower, 1 / deviation(tower, cache))
    tower.img_pos_embed.data.copy_(tower.pos_embed.data[:, : 1 + GRID * GRID])
