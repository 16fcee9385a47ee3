"""Initial weights of the tower of demo-videochat, and its forward pass for training.

The first layers of the demo CLIP are converted to those of InternVideo2, whose norms do not
subtract the mean and whose queries have no bias. `add_time_codes` then separates the frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPModel

from demo_models.training.videochat.data import CLIP_FRAMES, GRID, NUM_CLIPS
from pipelines.models.videochat_flash.modeling_internvideo2 import InternVideo2Tower
from pipelines.models.videochat_flash.modeling_umt import to_patches
from pipelines.models.videochat_flash.processing_videochat_flash import to_pixels

WIDTH = 128
NUM_HEADS = 4
NUM_BLOCKS = 5
CLIP_LAYERS = 3
CLIP_MEAN, CLIP_STD = 0.5, 0.5  # of the demo CLIP's processor
TABLE_MEAN, TABLE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIME_SHARE = 0.4  # of the codes of the frames, against those of the places, at the beginning
COMMON = 0.25  # mean of all tokens over their channels at the beginning, see `_with_bias`
FROZEN_BLOCKS = 2  # and the embeddings, in stages that learn what moves
TIME_SIZE = 0.5  # of the codes of the frames, against the stream behind the frozen blocks
LAST_STEPS = 3.0
STREAM_SCALE = 2.0
"""Factor on the stream while training, so that AdamW's steps are small beside the embeddings."""


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


def blocks_of(tower: InternVideo2Tower) -> list[Any]:
    """Return the blocks of a tower."""
    return list(tower.blocks)


def encode(tower: InternVideo2Tower, pixels: Tensor) -> Tensor:
    """Return what `InternVideo2Tower` returns, in bfloat16 where that is enough, for training.

    Args:
        tower: The tower.
        pixels: (B, 4, 3, S, S) normalised.

    Returns:
        (B, P, C) float32.
    """
    with torch.autocast("cpu", torch.bfloat16):
        tokens = tower.patch_embed(to_patches(pixels, tower.config.patch_px)).float()
        tokens = torch.cat([tower.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + tower.pos_embed
        for block in blocks_of(tower):
            query, key, value = block.qkv(block.norm1(tokens)).chunk(3, dim=-1)
            query, key = block.q_norm(query).to(value.dtype), block.k_norm(key).to(value.dtype)
            attended = block.proj(_attend(query, key, value))
            tokens = tokens + block.ls1(attended.float())
            inner = block.fc2(nn.functional.gelu(block.fc1(block.norm2(tokens))))
            tokens = tokens + block.ls2(inner.float())
    return tokens[:, 1:]


def _centred(weight: Tensor) -> Tensor:
    """Return what writes to the stream without its mean over the channels.

    Then the stream has mean 0, and the tower's norms, which take no mean off, are the CLIP's.
    """
    return weight - weight.mean(dim=0)


def _copy_embeddings(clip: Any, tower: InternVideo2Tower, pixels: Tensor) -> None:
    """Copy patch embedding, class token and positions; the CLIP's first norm is folded in.

    The norm divides each token by its own deviation; the mean deviation takes its place.
    """
    source, norm = clip.embeddings, clip.pre_layrnorm
    weight = source.patch_embedding.weight  # (C, 3, 8, 8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (TABLE_MEAN, TABLE_STD))
    bias = (weight * (mean - CLIP_MEAN) / CLIP_STD).sum(dim=(1, 2, 3))
    weight = (weight * std / CLIP_STD).flatten(1)
    places = source.position_embedding.weight
    side = round((len(places) - 1) ** 0.5)
    grid = places[1:].T.unflatten(1, (side, side))[None]
    grid = nn.functional.interpolate(grid, size=(GRID, GRID), mode="bicubic", align_corners=False)
    grid = grid[0].flatten(1).T  # (G * G, C)
    tokens = to_patches(pixels, tower.config.patch_px) @ weight.T + bias
    tokens = tokens + grid.repeat(CLIP_FRAMES, 1)
    gain = norm.weight / tokens.std(dim=-1).mean()
    tower.patch_embed.weight.copy_(_centred(gain[:, None] * _centred(weight)))
    tower.patch_embed.bias.copy_(_centred(gain * _centred(bias) + norm.bias))
    grid = _centred((grid * gain).T).T
    times = TIME_SHARE * grid.std() * torch.randn(CLIP_FRAMES, 1, WIDTH)
    first = norm(source.class_embedding + places[0])
    tower.pos_embed[0, 1:].copy_((grid + times).flatten(0, 1))
    tower.pos_embed.add_(COMMON)
    tower.cls_token[0, 0].copy_(_centred(first))


def _with_bias(weight: Tensor, norm: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
    """Return a weight that adds a bias, read from what all tokens have in common.

    The stream's mean over the channels is the same for every token and nothing else: a weight of
    1 / `norm` on all channels reads it and is blind for the rest.

    Args:
        weight: (R, C) behind a norm.
        norm: (C,) the norm's weight.
        bias: (R,) to add.
        tokens: (B, P, C) of the stream, for the size of its mean after the norm.
    """
    common = (tokens.mean(dim=-1) / tokens.square().mean(dim=-1).sqrt()).mean()
    return weight + torch.outer(bias / common - weight @ norm, 1 / norm) / len(norm)


def _copy_block(layer: Any, block: Any, tokens: Tensor) -> None:
    """Copy one layer of the CLIP; queries and keys get the size that they have for `tokens`."""
    attention, first, second = layer.self_attn, layer.layer_norm1, layer.layer_norm2
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight = torch.cat([part.weight for part in parts])
    bias = torch.cat([part(first.bias) for part in parts])
    block.norm1.weight.copy_(first.weight)
    block.norm2.weight.copy_(second.weight)
    block.qkv.weight.copy_(_with_bias(weight, first.weight, bias, tokens))
    block.proj.weight.copy_(_centred(attention.out_proj.weight))
    block.proj.bias.copy_(_centred(attention.out_proj.bias))
    block.fc2.weight.copy_(_centred(layer.mlp.fc2.weight))
    block.fc2.bias.copy_(_centred(layer.mlp.fc2.bias))
    query, key, value = block.qkv(block.norm1(tokens)).chunk(3, dim=-1)
    for norm, rows in ((block.q_norm, query), (block.k_norm, key)):
        norm.weight.fill_(rows.square().mean().sqrt())
    tokens = tokens + block.proj(_attend(block.q_norm(query), block.k_norm(key), value))
    inner = layer.mlp.fc1
    bias = inner(second.bias)
    block.fc1.bias.zero_()
    block.fc1.weight.copy_(_with_bias(inner.weight, second.weight, bias, tokens))


@torch.no_grad()
def warm_start(clip_folder: Path, tower: InternVideo2Tower, pixels: Tensor) -> None:
    """Copy embeddings and first layers of the demo CLIP; further blocks begin as the identity.

    Args:
        clip_folder: The checkpoint of the demo CLIP.
        tower: The tower to fill.
        pixels: (B, 4, 3, S, S) normalised, to measure the size of tokens, queries and keys.
    """
    whole: Any = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32, local_files_only=True)
    clip = whole.vision_model
    _copy_embeddings(clip, tower, pixels)
    tokens = tower.patch_embed(to_patches(pixels, tower.config.patch_px))
    tokens = torch.cat([tower.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    tokens = tokens + tower.pos_embed
    for layer, block in zip(clip.encoder.layers[:CLIP_LAYERS], blocks_of(tower), strict=False):
        _copy_block(layer, block, tokens)
        tokens = block(tokens)
    for block in blocks_of(tower)[CLIP_LAYERS:]:
        for zeroed in (block.proj, block.fc2):
            nn.init.zeros_(zeroed.weight)
            nn.init.zeros_(zeroed.bias)
    scale_stream(tower, STREAM_SCALE)


@torch.no_grad()
def scale_stream(tower: InternVideo2Tower, factor: float) -> None:
    """Multiply the tower's output; its norms make this exact, whatever the factor."""
    for part in (tower.patch_embed.weight, tower.patch_embed.bias, tower.cls_token):
        part.mul_(factor)
    tower.pos_embed.mul_(factor)
    for block in blocks_of(tower):
        block.ls1.weight.mul_(factor)
        block.ls2.weight.mul_(factor)


@torch.no_grad()
def add_time_codes(tower: InternVideo2Tower, pixels: Tensor) -> None:
    """Add a strong code of its frame to every token; what the blocks do stays about the same.

    The CLIP's blocks write so much into the stream that the frame of a token cannot be read
    behind the second one. The codes are orthogonal and as large as the stream in its middle;
    blocks are made blind for them, and learn to see them. The steps of the last blocks are
    enlarged too.

    Args:
        tower: A tower that knows what still images show.
        pixels: (B, 4, 3, S, S) normalised, to measure the size of the stream.
    """
    plain = []
    tokens = tower.patch_embed(to_patches(pixels, tower.config.patch_px))
    tokens = torch.cat([tower.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    tokens = tokens + tower.pos_embed
    for block in blocks_of(tower):
        query, key, value = block.qkv(block.norm1(tokens)).chunk(3, dim=-1)
        attended = _attend(block.q_norm(query), block.k_norm(key), value)
        between = tokens + block.ls1(block.proj(attended))
        plain.append([rows.square().mean().sqrt().item() for rows in (tokens, between)])
        tokens = block(tokens)
    size = TIME_SIZE * plain[FROZEN_BLOCKS][0]
    random = torch.cat([torch.ones(WIDTH, 1), torch.randn(WIDTH, CLIP_FRAMES)], dim=1)
    codes = torch.linalg.qr(random).Q[:, 1:]  # (C, 4), orthogonal to the common mean too
    blind = torch.eye(WIDTH) - codes @ codes.T
    for block, sizes in zip(blocks_of(tower), plain, strict=True):
        for norm, layer, before in zip(
            (block.norm1, block.norm2), (block.qkv, block.fc1), sizes, strict=True
        ):
            larger = (1 + (size / before) ** 2) ** 0.5
            layer.weight.copy_(larger * (layer.weight * norm.weight) @ blind)
            norm.weight.fill_(1.0)
    for block in blocks_of(tower)[CLIP_LAYERS:]:
        for scale, layer in ((block.ls1, block.proj), (block.ls2, block.fc2)):
            scale.weight.mul_(LAST_STEPS)
            layer.weight.div_(LAST_STEPS)
            layer.bias.div_(LAST_STEPS)
    marks = size * WIDTH**0.5 * codes.T  # (4, C)
    tower.pos_embed[0, 1:].add_(marks.repeat_interleave(GRID * GRID, dim=0))
