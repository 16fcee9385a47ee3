"""Initial weights of the two new layers of demo-viclip, from which motion is easily learned.

Two things keep joint attention from finding motion within minutes. The layers of the demo CLIP add
so much that the frame's number, which only the input carries, is lost: behind the third one a
linear probe is right for 42 % of the frames. And attention over 512 patches does not learn by
itself to compare an object with itself at other times.

So both layers are first set by linear regressions from tokens to known labels. The first, early
one adds the frame's number with a large scale. In the second each head reads the object under a
patch elsewhere in time (first frame, last frame, two frames earlier, two later), found by shape,
colour and frame, and writes its place and properties there, so that velocity becomes a difference
of what the heads wrote. Training goes on from there freely.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from demo_models.training.viclip.data import (
    NUM_FRAMES,
    SamplePool,
    VideoBatch,
    VideoSizes,
    make_batch,
)
from demo_models.training.viclip.heads import stack_labels
from demo_models.training.viclip.model import HEADS, MOTION_PLACE, NUM_PATCHES, TIME_PLACE, WIDTH
from demo_models.world.vocabulary import COLOURS, SHAPES
from pipelines.models.viclip.modeling_viclip import ViClipModel
from pipelines.models.viclip.processing_viclip import normalise_frames

SHARPNESS = 9.0
"""Logit of an agreement in shape, in colour or in time."""

TIME_GAIN = 2.0
TIME_SCALE = 0.6
"""Scale of what the first layer adds, in standard deviations of the stream."""

OUTPUT_SCALE = 0.5
MOTION_SCALE = 1.0
RIDGE = 1e-3
HEAD = WIDTH // HEADS
OFFSET = 5.0
"""So far above 0 QuickGELU is the identity."""


def wanted_frames() -> Tensor:
    """Return which frame each head reads from a token of each frame, (HEADS, 8) int64."""
    frames = torch.arange(NUM_FRAMES)
    last = NUM_FRAMES - 1
    return torch.stack(
        [
            torch.zeros_like(frames),
            torch.full_like(frames, last),
            (frames - 2).clamp(min=0),
            (frames + 2).clamp(max=last),
        ]
    )


def collect(
    model: ViClipModel,
    place: int,
    seed: int,
    num_batches: int,
    num_motions: int,
    attended: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the tokens that enter layer `place`, (N, WIDTH), and their labels, flattened alike.

    With `attended` they are those that enter its MLP.

    Tokens of object edges, which belong to nobody, are left out.
    """
    rng = np.random.default_rng([seed, 99])
    sizes = VideoSizes(num_motions, twins=0, non_scenes=0, hard_texts=0, unrelated_texts=0)
    pool = SamplePool(sizes)
    tower = model.vision_encoder
    parts: list[Tensor] = []
    names = ("shape", "colour", "boxes", "frame", "ever", "pace")
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    for _ in range(num_batches):
        batch = make_batch(rng, sizes, pool)
        pixels = as_pixels(batch)
        labels = stack_labels(batch.labels)
        labels["frame"] = (torch.arange(NUM_PATCHES) % NUM_FRAMES).expand(len(pixels), -1)
        with torch.no_grad():
            tokens = tower.ln_pre(tower.embeddings(pixels))
            for earlier in tower.transformer.resblocks[:place]:
                tokens = earlier(tokens, False)
            if attended:
                block: Any = tower.transformer.resblocks[place]
                tokens = tokens + block.attn(block.ln_1(tokens), False)
        use = labels["shape"] >= 0
        use &= (labels["shape"] < len(SHAPES)) | (torch.rand(use.shape) < 0.15)
        parts.append(tokens[:, 1:][use])
        for name, table in kept.items():
            table.append(labels[name][use])
    return torch.cat(parts), {name: torch.cat(table) for name, table in kept.items()}


def as_pixels(batch: VideoBatch) -> Tensor:
    """Return the frames of a batch as the network reads them, (B, 8, 3, 64, 64) float32."""
    flat = batch.pixels.reshape(-1, *batch.pixels.shape[2:])
    return normalise_frames(flat).unflatten(0, batch.pixels.shape[:2])


def solve(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) of the ridge regression of (N, K) on (N, D)."""
    full = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()
    square = full.T @ full / len(full)
    square += RIDGE * torch.eye(len(square), dtype=torch.double)
    found = torch.linalg.solve(square, full.T @ targets.double() / len(full)).float()
    return found[:-1].T.contiguous(), found[-1]


def one_hot(values: Tensor, count: int) -> Tensor:
    """Return (N, count) float32 of (N,) int64; `count` itself stands for none."""
    return torch.nn.functional.one_hot(values, count + 1)[:, :count].float()


def write_estimates(block: Any, tokens: Tensor, targets: Tensor, gain: float, seed: int) -> Tensor:
    """Let a layer's MLP add what a regression reads from its tokens, in a few of its units.

    The units are those that add least so far. `tokens` (N, WIDTH) are what enters the MLP before
    its norm, `targets` (N, K); returns the regression's estimates, (N, K).
    """
    count = targets.shape[1]
    inputs = block.ln_2(tokens)
    weight, bias = solve(inputs, targets)
    units = block.mlp.c_proj.weight.norm(dim=0).topk(count, largest=False).indices
    block.mlp.c_fc.weight[units], block.mlp.c_fc.bias[units] = weight, bias + OFFSET
    random = torch.Generator().manual_seed(seed)
    mixing, _ = torch.linalg.qr(torch.randn(WIDTH, count, generator=random))
    output = gain * float(tokens.std()) * WIDTH**0.5 * mixing
    block.mlp.c_proj.weight[:, units] = output
    block.mlp.c_proj.bias -= output @ (OFFSET + targets.mean(dim=0))
    return inputs @ weight.T + bias


@torch.no_grad()
def start_time(model: ViClipModel, seed: int, num_batches: int, num_motions: int) -> float:
    """Set the first new layer; returns the share of frames that its regression predicts right.

    Its attention adds nothing; its MLP is linear where it is used.
    """
    tokens, labels = collect(model, TIME_PLACE, seed, num_batches, num_motions)
    block: Any = model.vision_encoder.transformer.resblocks[TIME_PLACE]
    for norm in (block.ln_1, block.ln_2):
        norm.weight.fill_(1.0)
        norm.bias.zero_()
    for layer in (block.attn.out_proj, block.mlp.c_proj):
        layer.weight.zero_()
        layer.bias.zero_()
    predicted = write_estimates(
        block, tokens, one_hot(labels["frame"], NUM_FRAMES), TIME_SCALE, seed
    )
    return float((predicted.argmax(dim=1) == labels["frame"]).float().mean())


@torch.no_grad()
def repeat_motion(model: ViClipModel, seed: int, num_batches: int, num_motions: int) -> float:
    """Let the second new layer add what its patches hold of motion, with a large scale.

    Returns the share of moving patches whose direction the regression predicts right.
    """
    tokens, labels = collect(model, MOTION_PLACE, seed, num_batches, num_motions, attended=True)
    block: Any = model.vision_encoder.transformer.resblocks[MOTION_PLACE]
    targets = torch.cat([labels["ever"], labels["pace"]], dim=1)
    predicted = write_estimates(block, tokens, targets, MOTION_SCALE, seed)
    ways = labels["ever"][:, :4]
    moving = ways.sum(dim=1) == 1
    right = predicted[moving, :4].argmax(dim=1) == ways[moving].argmax(dim=1)
    return float(right.float().mean())


@torch.no_grad()
def start_motion(
    model: ViClipModel, seed: int, num_batches: int, num_motions: int
) -> dict[str, float]:
    """Set both new layers; returns how well the regressions fit, as shares explained."""
    model.vision_encoder.temporal_positional_embedding.mul_(TIME_GAIN)
    fits = {"frame": start_time(model, seed, num_batches, num_motions)}
    tokens, labels = collect(model, MOTION_PLACE, seed, num_batches, num_motions)
    block: Any = model.vision_encoder.transformer.resblocks[MOTION_PLACE]
    block.ln_1.weight.fill_(1.0)
    block.ln_1.bias.zero_()
    inputs = block.ln_1(tokens)
    shape, colour = one_hot(labels["shape"], len(SHAPES)), one_hot(labels["colour"], len(COLOURS))
    there = (labels["shape"] < len(SHAPES)).float()[:, None]
    gain = (SHARPNESS * HEAD**0.5) ** 0.5
    random = torch.Generator().manual_seed(seed)
    weight, bias = torch.zeros(3 * WIDTH, WIDTH), torch.zeros(3 * WIDTH)
    for head, frames in enumerate(wanted_frames()):
        keys = torch.cat([shape, colour, one_hot(labels["frame"], NUM_FRAMES)], dim=1)
        queries = torch.cat([shape, colour, one_hot(frames[labels["frame"]], NUM_FRAMES)], dim=1)
        spread = (labels["boxes"] - torch.tensor([0.5, 0.5, 0.13])) * torch.tensor([4.0, 4.0, 20.0])
        values = torch.cat([there * spread, there, colour], dim=1)
        rows = slice(head * HEAD, (head + 1) * HEAD)
        for part, targets in enumerate((gain * queries, gain * keys, values)):
            found, offset = solve(inputs, targets)
            block_rows = slice(part * WIDTH + rows.start, part * WIDTH + rows.start + len(found))
            weight[block_rows], bias[block_rows] = found, offset
            missed = (inputs @ found.T + offset - targets).var(dim=0).sum()
            fits[f"head {head} {'qkv'[part]}"] = 1 - float(missed / targets.var(dim=0).sum())
        spare = slice(2 * WIDTH + rows.start + values.shape[1], 2 * WIDTH + rows.stop)
        weight[spare] = torch.randn(HEAD - values.shape[1], WIDTH, generator=random) * WIDTH**-0.5
    block.attn.in_proj.weight.copy_(weight)
    block.attn.in_proj.bias.copy_(bias)
    mixing, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=random))
    block.attn.out_proj.weight.copy_(OUTPUT_SCALE * float(tokens.std()) * mixing)
    block.attn.out_proj.bias.zero_()
    block.mlp.c_proj.weight.zero_()
    block.mlp.c_proj.bias.zero_()
    return fits
