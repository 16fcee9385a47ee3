"""The vision tower of the demo VideoChat-Flash: the demo CLIP's first layers, then two new ones.

It is of the kind InternVideo2, whose positions are weights: those of UMT are a fixed table from
which the column of a patch cannot be read (NOTES.md).

The tower attends over four frames at once, so that it sees what moves within them. It is taught
with the dense labels of `videochat_labels` and then frozen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from demo_models.training.videochat.data import (
    CLIP_FRAMES,
    GRID,
    ObjectTables,
    Turning,
    VideoCache,
    turned_owners,
    turned_pixels,
    turned_tables,
)
from demo_models.training.videochat.initialisation import (
    FROZEN_BLOCKS,
    NUM_HEADS,
    WIDTH,
    blocks_of,
    clips_of,
    encode,
    mark_time,
    scale_stream,
    warm_start,
)
from demo_models.training.videochat.labels import (
    NOBODY,
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
    stack_tables,
)
from pipelines.videochat_flash.modeling_internvideo2 import InternVideo2Tower

MERGED = 64


@dataclass(frozen=True)
class TowerStage:
    """One stage of the tower; each starts with new heads and optimizers."""

    steps: int
    horizon: int = 10**9  # the step at which the rates, falling linearly from 1, would be 0
    flat: int = 0  # steps before they begin to fall
    head_steps: int = 0  # in which the new heads alone are trained
    moving: bool = False  # whether it learns what moves, from `mark_time` on


@dataclass(frozen=True)
class TowerOptions:
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


def rate_at(step: int, stage: TowerStage, warmup: int) -> float:
    """Return the factor on the learning rates: warm-up, even, then linear towards 0."""
    falling = (stage.horizon - step) / (stage.horizon - stage.flat)
    return min((step + 1) / warmup, 1.0, falling)


def video_batch(
    cache: VideoCache, rows: NDArray[np.int64], turnings: list[Turning]
) -> tuple[Tensor, ClipLabels, ObjectTables]:
    """Return clips (V * 2, 4, 3, S, S), their labels, and the tables of the V turned videos."""
    pairs = list(zip(rows.tolist(), turnings, strict=True))
    pixels = np.stack([turned_pixels(cache.pixels[row], turning) for row, turning in pairs])
    owners = np.stack([turned_owners(cache.owners[row], turning) for row, turning in pairs])
    tables = stack_tables([turned_tables(cache.tables, row, turning) for row, turning in pairs])
    backgrounds = [cache.motions[row].page.background for row in rows]
    return clips_of(pixels), clip_labels(owners, tables, backgrounds), tables


def random_turnings(rng: np.random.Generator, num: int) -> list[Turning]:
    """Return `num` turnings, each of the four as likely."""
    return [Turning(bool(rng.random() < 0.5), bool(rng.random() < 0.5)) for _ in range(num)]


@torch.no_grad()
def figures(
    heads: TokenHeads, tokens: Tensor, masses: Tensor, labels: ClipLabels
) -> dict[str, float]:
    """Return how much merged tokens tell, and the share of objects that have one of their own."""
    owner = merged_owner(masses)
    clip, place = (owner < NOBODY).nonzero(as_tuple=True)
    item, mine = owner[clip, place], tokens[clip, place]
    actions = labels.actions[clip, item]
    told, asked = heads.actions(mine) > 0, actions >= 0
    done = actions == 1
    way = heads.way(mine).unflatten(1, (CLIP_FRAMES, 3)) - labels.track[clip, item, :, :3]
    there = labels.track[clip, item, :, 3] > 0
    seen = labels.track[..., 3].sum(dim=2) >= 1
    seen &= labels.shape >= 0
    held = torch.zeros(len(owner), NOBODY + 2, dtype=torch.bool)
    held.scatter_(1, owner, True)
    return {
        "shape": (heads.shape(mine).argmax(-1) == labels.shape[clip, item]).float().mean().item(),
        "colour": (heads.colours[1](mine).argmax(-1) == labels.colour[clip, item, -1])
        .float()
        .mean()
        .item(),
        "way_rms": way[there][:, :2].square().mean().sqrt().item(),
        "done": told[done].float().mean().item(),
        "not_done": (~told)[asked & ~done].float().mean().item(),
        "objects_held": held[:, :NOBODY][seen].float().mean().item(),
        "count": (heads.count(tokens).argmax(-1) == labels.count[:, None]).float().mean().item(),
    }


class TowerTraining:
    """The tower, its heads and its optimizers."""

    def __init__(self, tower: InternVideo2Tower, options: TowerOptions, scale: float) -> None:
        """Make the heads, which read the tokens times `scale`, and the optimizers."""
        self.tower, self.options, self.scale = tower, options, scale
        self.patch_heads, self.merged_heads = TokenHeads(WIDTH), TokenHeads(WIDTH)
        hidden: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in tower.named_parameters():
            inside = name.startswith("blocks.") and parameter.ndim == 2
            if parameter.requires_grad:
                (hidden if inside else rest).append(parameter)
        rest += [*self.patch_heads.parameters(), *self.merged_heads.parameters()]
        self.parameters = [*hidden, *rest]
        muon = torch.optim.Muon(hidden, lr=options.muon_rate, weight_decay=0.01, momentum=0.95)
        adam = torch.optim.AdamW(rest, lr=options.adam_rate, weight_decay=0.01)
        self.optimizers = [(muon, options.muon_rate), (adam, options.adam_rate)]

    def step(
        self, pixels: Tensor, labels: ClipLabels, stage: TowerStage, number: int
    ) -> dict[str, Tensor]:
        """Do one step of a stage; return tokens, masses and losses."""
        tokens = self.scale * encode(self.tower, pixels)
        if number < stage.head_steps:
            tokens = tokens.detach()
        merged, masses = merge_with(tokens, owner_masses(labels), NUM_HEADS, MERGED)
        losses = {
            "patches": patch_loss(self.patch_heads, tokens, labels),
            "merged": merged_loss(self.merged_heads, merged, masses, labels),
            "alike": self.options.merge_weight * merge_loss(tokens, labels.owner, NUM_HEADS),
        }
        if stage.moving:
            losses["history"] = history_loss(self.patch_heads, tokens, labels)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        factor = rate_at(number, stage, self.options.warmup)
        for optimizer, rate in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()
        return {**losses, "tokens": merged.detach(), "masses": masses}

    def told(self, done: dict[str, Tensor], labels: ClipLabels) -> str:
        """Return a line about a step."""
        shares = figures(self.merged_heads, done["tokens"], done["masses"], labels)
        names = [name for name in ("patches", "merged", "alike", "history") if name in done]
        told: dict[str, float] = {name: done[name].item() for name in names}
        told.update(shares)
        return " ".join(f"{name} {value:.3f}" for name, value in told.items())


def train_tower(
    tower: InternVideo2Tower,
    cache: VideoCache,
    seed: int,
    options: TowerOptions,
    index: int,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Teach the tower in place for one stage, by its index."""
    stage = options.stages[index]
    rng = np.random.default_rng([seed, 32, index])
    torch.manual_seed(seed + index)
    if stage.moving:
        mark_time(tower, clips_of(np.array(cache.pixels[:16])))
        tower.requires_grad_(False)
        for block in blocks_of(tower)[FROZEN_BLOCKS:]:
            block.requires_grad_(True)
    with torch.no_grad():
        scale = 1 / encode(tower, clips_of(np.array(cache.pixels[:16]))).std().item()
    training = TowerTraining(tower, options, scale)
    started = time.process_time()
    for step in range(stage.steps):
        rows = rng.integers(0, len(cache.motions), options.videos)
        pixels, labels, _ = video_batch(cache, rows, random_turnings(rng, options.videos))
        done = training.step(pixels, labels, stage, step)
        if step % 25 == 0 or step + 1 == stage.steps:
            spent = time.process_time() - started
            told = training.told(done, labels)
            print(f"tower {index} step {step} {told} cpu {spent:.0f}s", flush=True)
        if (step + 1) % 200 == 0:
            save()


def make_tower(
    tower: InternVideo2Tower,
    clip_folder: Path,
    cache: VideoCache,
    seed: int,
    options: TowerOptions,
    save: Callable[[], None] = lambda: None,
    first: int = 0,
) -> None:
    """Warm-start and train the tower; the result depends on the arguments alone.

    At the end the stream is scaled so that tokens have about deviation 1. With `first` the tower
    is as the stages before that one left it.
    """
    assert tower.config.grid == GRID
    if first == 0:
        warm_start(clip_folder, tower, clips_of(np.array(cache.pixels[:16])))
    for index in range(first, len(options.stages)):
        train_tower(tower, cache, seed, options, index, save)
    with torch.no_grad():
        size = encode(tower, clips_of(np.array(cache.pixels[:16]))).std().item()
    scale_stream(tower, 1 / size)
    tower.img_pos_embed.data.copy_(tower.pos_embed.data[:, : 1 + GRID * GRID])
