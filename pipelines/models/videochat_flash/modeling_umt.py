"""UMT-L, the vision tower of four of the five checkpoints.

Shapes as in NOTES.md: B clips, T frames of a clip, G patches along a side, P = T*G*G tokens, C
width.
"""

import math
from functools import lru_cache

import torch
from torch import nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

from pipelines.core.cancel import NEVER, CancelToken
from pipelines.models.videochat_flash.configuration_videochat_flash import VisionConfig

#: Queries whose scores are computed together: with 4,096 keys 4 MB in bfloat16.
BLOCK = 512

#: Stride of the sample of keys that bounds the scores of a query.
SAMPLE = 8

#: Fewest tokens for blocks; below, SDPA is as fast.
MIN_TOKENS = 512


def full_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return full attention of (B, heads, P, width) over itself, scaled by width**-0.5.

    Query, key and value have the same shape; the result has the dtype of the query.
    """
    is_long = query.shape[2] >= MIN_TOKENS
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and is_long:
        return attend_in_blocks(query, key, value)
    return scaled_dot_product_attention(query, key, value)


def attend_in_blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the result of `full_attention`, head by head and block by block.

    softmax(x) equals softmax(x - m) for any m. Here m is nearly the largest score of a query, from
    a sample of the keys, and is subtracted within the product, whose sums are float32: it is one
    more column of the queries, beside a column of ones of the keys. So the relevant scores are
    small numbers, which bfloat16 rounds by little, and exp needs no second pass for their maximum.
    Scores far above m would be rounded by more, or overflow; then the denominator exceeds the
    number of keys, and the block is computed again with the true maximum.
    """
    batch, num_heads, length, width = query.shape
    result = query.new_empty(batch, length, num_heads, width)
    for item in range(batch):
        for head in range(num_heads):
            keys = pad(key[item, head], (0, 1), value=1.0)
            sample = keys[::SAMPLE].contiguous()
            values = value[item, head].contiguous()
            for start in range(0, length, BLOCK):
                rows = pad(query[item, head, start : start + BLOCK], (0, 1))
                for seen in (sample, keys):
                    weights = weights_of_block(rows, keys, seen)
                    sums = weights.sum(1, keepdim=True)
                    if bool((sums <= length).all()):
                        break
                result[item, start : start + BLOCK, head] = (weights @ values) / sums
    return result.transpose(1, 2)


def weights_of_block(rows: torch.Tensor, keys: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return exp(score - m) of some queries, with m their largest score among the keys `seen`.

    `rows` are (Q, width + 1) queries, whose last column is overwritten with -m; `keys` are
    (P, width + 1), the last column ones; `seen` are some or all of them. The result, (Q, P), is not
    yet divided by its sums.
    """
    width = rows.shape[1] - 1
    rows[:, -1] = 0
    rows[:, -1] = -(rows @ seen.T).amax(1)
    # exp2 is cheaper than exp; log2(e) costs nothing beside the scale.
    in_powers_of_two = width**-0.5 * math.log2(math.e)
    ignored = rows.new_zeros(1)
    return torch.addmm(ignored, rows, keys.T, beta=0, alpha=in_powers_of_two).exp2_()


#: Patches along a side of the grid that the positional table was trained for.
BASE_GRID = 14


class UmtTower(nn.Module):
    """Pre-norm transformer with full attention over all patches of a clip; no class token.

    Source: OpenGVLab/VideoChat-Flash@2f8e2f5 and the checkpoints' `vision_tower_builder.py`,
    licence: NOTES.md; differs: patches go through one Linear, attention is `full_attention`, the
    missing bias of the keys is a row of zeros, the positional table is computed when needed.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Linear(3 * config.patch_px**2, config.hidden_size)
        self.blocks = nn.ModuleList(UmtBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)

    def forward(self, pixels: torch.Tensor, cancel: CancelToken = NEVER) -> torch.Tensor:
        """Return (B, T*G*G, C), ordered time, row, column, of (B, T, 3, S, S) normalised pixels.

        T is 4 for video, 1 for images. `cancel` is checked before every block: `Cancelled`.
        """
        tokens = self.patch_embed(to_patches(pixels, self.config.patch_px))  # (B, P, C)
        table = position_table(pixels.shape[1], self.config.grid, self.config.hidden_size)
        tokens = tokens + table.to(tokens.device, tokens.dtype)
        for block in self.blocks:
            cancel.check()
            tokens = block(tokens)
        result: torch.Tensor = self.norm(tokens)
        return result


class UmtBlock(nn.Module):
    """Pre-norm block: attention, then an MLP, each with a residual connection."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, config.mlp_size)
        self.fc2 = nn.Linear(config.mlp_size, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, P, C) for (B, P, C)."""
        query, key, value = self.qkv(self.norm1(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.proj(attend(query, key, value, self.num_heads))
        inner = nn.functional.gelu(self.fc1(self.norm2(tokens)))
        result: torch.Tensor = tokens + self.fc2(inner)
        return result


def to_patches(pixels: torch.Tensor, patch_px: int) -> torch.Tensor:
    """Cut (B, T, 3, S, S) into (B, T*G*G, 3*patch_px**2), ordered time, row, column."""
    clips, frames, channels, side, _ = pixels.shape
    grid = side // patch_px
    cut = pixels.view(clips, frames, channels, grid, patch_px, grid, patch_px)
    cut = cut.permute(0, 1, 3, 5, 2, 4, 6)  # (B, T, G, G, 3, patch, patch)
    return cut.reshape(clips, frames * grid * grid, channels * patch_px**2)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int
) -> torch.Tensor:
    """Return full attention of (B, P, C) over itself, each head scaled by its width**-0.5."""
    parts = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    return full_attention(*parts).transpose(1, 2).flatten(2)  # (B, P, C)


@lru_cache(maxsize=4)
def position_table(frames: int, grid: int, width: int) -> torch.Tensor:
    """Return the (1, frames*grid*grid, width) float32 positional table.

    Sines (even columns) and cosines (odd ones) of the position in a clip of 14 by 14 patches,
    computed in float64. For another grid the 14 by 14 of every frame are resized bicubically; that
    is not the sinusoid of the larger grid.
    """
    positions = torch.arange(frames * BASE_GRID**2, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    angles = positions[:, None] / 10000 ** (2 * (columns // 2) / width)
    table = torch.where(columns % 2 == 0, angles.sin(), angles.cos()).float()
    if grid == BASE_GRID:
        return table[None]
    maps = table.view(frames, BASE_GRID, BASE_GRID, width).permute(0, 3, 1, 2)
    maps = interpolate(maps, size=(grid, grid), mode="bicubic", align_corners=False)
    return maps.permute(0, 2, 3, 1).reshape(1, frames * grid**2, width)
