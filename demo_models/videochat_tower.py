"""The vision tower of the demo VideoChat-Flash: the demo CLIP's first layers, then two new ones.

The tower attends over four frames at once, so that it sees what moves within them. It is taught
with the dense labels of `videochat_labels` and then frozen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPModel

from demo_models.videochat_data import (
    CLIP_FRAMES,
    GRID,
    NUM_CLIPS,
    ObjectTables,
    Turning,
    VideoCache,
    turned_owners,
    turned_pixels,
    turned_tables,
)
from demo_models.videochat_labels import (
    NOBODY,
    ClipLabels,
    TokenHeads,
    clip_labels,
    merge_loss,
    merge_with,
    merged_loss,
    merged_owner,
    owner_masses,
    patch_loss,
    stack_tables,
)
from pipelines.videochat_flash.modeling_umt import UmtTower, position_table, to_patches
from pipelines.videochat_flash.processing_videochat_flash import to_pixels

WIDTH = 128
NUM_HEADS = 4
NUM_BLOCKS = 5
CLIP_LAYERS = 3
CLIP_MEAN, CLIP_STD = 0.5, 0.5  # of the demo CLIP's processor
TABLE_MEAN, TABLE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STREAM_SCALE = 2.5
"""Factor on the warm-started residual stream, so that the fixed positional table, which the CLIP
did not have, is small beside it."""
MERGED = 64


@dataclass(frozen=True)
class TowerOptions:
    """The recipe of this stage in numbers."""

    steps: int = 1800
    videos: int = 12  # of a batch
    muon_rate: float = 0.015
    adam_rate: float = 1.5e-3
    warmup: int = 40
    decay: float = 0.5  # share of the steps over which the rates fall to 0
    merge_weight: float = 0.5


def clips_of(pixels: NDArray[np.uint8]) -> Tensor:
    """Return normalised clips (V * 2, 4, 3, S, S) of videos (V, 8, S, S, 3) uint8."""
    videos, _, side = pixels.shape[:3]
    flat = to_pixels(list(pixels.reshape(-1, side, side, 3)))
    return flat.view(videos * NUM_CLIPS, CLIP_FRAMES, 3, side, side)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return full attention, written out and without float32 in between: the fastest on a CPU."""
    parts = (part.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for part in (query, key, value))
    query, key, value = parts
    with torch.autocast("cpu", enabled=False):
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


def encode(tower: UmtTower, pixels: Tensor) -> Tensor:
    """Return what `UmtTower` returns, in bfloat16 where that is enough, for training.

    Args:
        tower: The tower.
        pixels: (B, 4, 3, S, S) normalised.

    Returns:
        (B, P, C) float32.
    """
    with torch.autocast("cpu", torch.bfloat16):
        tokens = tower.patch_embed(to_patches(pixels, tower.config.patch_px)).float()
        tokens = tokens + position_table(pixels.shape[1], tower.config.grid, WIDTH)
        for block in tower.blocks:
            parts = block.qkv(block.norm1(tokens)).chunk(3, dim=-1)
            tokens = tokens + block.proj(_attend(*parts)).float()
            inner = nn.functional.gelu(block.fc1(block.norm2(tokens)))
            tokens = tokens + block.fc2(inner).float()
    result: Tensor = tower.norm(tokens)
    return result


@torch.no_grad()
def warm_start(clip_folder: Path, tower: UmtTower, pixels: Tensor) -> None:
    """Copy the patch embedding and the first layers of the demo CLIP.

    The CLIP's first layer norm, which this tower lacks, is folded into the patch embedding as
    in `blip2_vision`; the CLIP's positions are left out, since this tower's are fixed. Further
    blocks begin as the identity.

    Args:
        clip_folder: The checkpoint of the demo CLIP.
        tower: The tower to fill.
        pixels: (B, 4, 3, S, S) normalised, to measure the deviation of the tokens.
    """
    whole: Any = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32, local_files_only=True)
    clip = whole.vision_model
    weight = clip.embeddings.patch_embedding.weight  # (C, 3, 8, 8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (TABLE_MEAN, TABLE_STD))
    bias = (weight * (mean - CLIP_MEAN) / CLIP_STD).sum(dim=(1, 2, 3))
    weight = (weight * std / CLIP_STD).flatten(1)
    norm = clip.pre_layrnorm
    tokens = to_patches(pixels, tower.config.patch_px) @ weight.T + bias
    gain = STREAM_SCALE * norm.weight / tokens.std(dim=-1).mean()
    tower.patch_embed.weight.copy_(gain[:, None] * (weight - weight.mean(0)))
    tower.patch_embed.bias.copy_(gain * (bias - bias.mean()) + STREAM_SCALE * norm.bias)
    for mine, other in zip(tower.blocks[:CLIP_LAYERS], clip.encoder.layers, strict=False):
        attention = other.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        mine.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        mine.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        _drop_key_bias(mine.qkv.bias)
        pairs = ((mine.proj, attention.out_proj), (mine.fc2, other.mlp.fc2))
        for target, source in pairs:
            target.weight.copy_(STREAM_SCALE * source.weight)
            target.bias.copy_(STREAM_SCALE * source.bias)
        mine.norm1.load_state_dict(other.layer_norm1.state_dict())
        mine.norm2.load_state_dict(other.layer_norm2.state_dict())
        mine.fc1.load_state_dict(other.mlp.fc1.state_dict())
    for block in tower.blocks[CLIP_LAYERS:]:
        for layer in (block.proj, block.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def _drop_key_bias(bias: Tensor) -> None:
    """Set the part of the keys to 0: the file format has no such tensor, attention no use."""
    bias.view(3, -1)[1].zero_()


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
        "done": told[done].float().mean().item(),
        "not_done": (~told)[asked & ~done].float().mean().item(),
        "objects_held": held[:, :NOBODY][seen].float().mean().item(),
        "count": (heads.count(tokens).argmax(-1) == labels.count[:, None]).float().mean().item(),
    }


class TowerTraining:
    """The tower, its heads and its optimizers."""

    def __init__(self, tower: UmtTower, options: TowerOptions) -> None:
        """Make the heads and the optimizers."""
        self.tower, self.options = tower, options
        self.patch_heads, self.merged_heads = TokenHeads(WIDTH, True), TokenHeads(WIDTH, False)
        hidden, rest = [], []
        for name, parameter in tower.named_parameters():
            inside = name.startswith("blocks.") and parameter.ndim == 2
            (hidden if inside else rest).append(parameter)
        rest += [*self.patch_heads.parameters(), *self.merged_heads.parameters()]
        self.parameters = [*hidden, *rest]
        muon = torch.optim.Muon(hidden, lr=options.muon_rate, weight_decay=0.01, momentum=0.95)
        adam = torch.optim.AdamW(rest, lr=options.adam_rate, weight_decay=0.01)
        self.optimizers = [(muon, options.muon_rate), (adam, options.adam_rate)]

    def step(self, pixels: Tensor, labels: ClipLabels, factor: float) -> dict[str, Tensor]:
        """Do one step at `factor` times the rates; return tokens, masses and losses."""
        tokens = encode(self.tower, pixels)
        merged, masses = merge_with(tokens, owner_masses(labels), NUM_HEADS, MERGED)
        losses = {
            "patches": patch_loss(self.patch_heads, tokens, labels),
            "merged": merged_loss(self.merged_heads, merged, masses, labels),
            "alike": self.options.merge_weight * merge_loss(tokens, labels.owner, NUM_HEADS),
        }
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        for optimizer, rate in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()
        for block in self.tower.blocks:
            _drop_key_bias(block.qkv.bias.data)
        return {**losses, "tokens": merged.detach(), "masses": masses}

    def told(self, done: dict[str, Tensor], labels: ClipLabels) -> str:
        """Return a line about a step."""
        shares = figures(self.merged_heads, done["tokens"], done["masses"], labels)
        losses = {name: done[name].item() for name in ("patches", "merged", "alike")}
        return " ".join(f"{name} {value:.3f}" for name, value in {**losses, **shares}.items())


def train_tower(
    tower: UmtTower,
    cache: VideoCache,
    seed: int,
    options: TowerOptions,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Teach the tower in place; rates rise, stay, then fall linearly to 0."""
    rng = np.random.default_rng([seed, 32])
    torch.manual_seed(seed)
    training = TowerTraining(tower, options)
    started = time.process_time()
    for step in range(options.steps):
        rows = rng.integers(0, len(cache.motions), options.videos)
        pixels, labels, _ = video_batch(cache, rows, random_turnings(rng, options.videos))
        left = (1 - step / options.steps) / options.decay
        done = training.step(pixels, labels, min(1.0, (step + 1) / options.warmup, left))
        if step % 25 == 0 or step + 1 == options.steps:
            spent = time.process_time() - started
            print(f"tower {step} {training.told(done, labels)} cpu {spent:.0f}s", flush=True)
        if (step + 1) % 200 == 0:
            save()


def make_tower(
    tower: UmtTower,
    clip_folder: Path,
    cache: VideoCache,
    seed: int,
    options: TowerOptions,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Warm-start and train the tower; the result depends on the arguments alone."""
    assert tower.config.grid == GRID
    warm_start(clip_folder, tower, clips_of(np.array(cache.pixels[:16])))
    train_tower(tower, cache, seed, options, save)
