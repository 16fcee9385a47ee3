"""Dense labels of a clip of four frames, and the heads that learn them and are discarded.

Everything that will be asked is a label of the tokens: what object covers a patch, its colour,
place, speed and what it does, the background and the number of objects; once for the patches, and
once for the tokens that are left after merging. A further loss makes the patches of one object
alike in the very features by which tokens are merged, so that small objects are not mixed into
the page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from demo_models.training.videochat.data import (
    CLIP_FRAMES,
    EDGE,
    EMPTY,
    GRID,
    MAX_OBJECTS,
    NUM_CLIPS,
    ObjectTables,
)
from demo_models.world.motion import EVENT_KINDS
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES

PATCHES = CLIP_FRAMES * GRID * GRID
NO_OWNER = MAX_OBJECTS
UNDECIDED = MAX_OBJECTS + 1
TEMPERATURE = 0.1  # of the loss on the features for merging
DONE_WEIGHT = 3.0  # of an event that happens, against one that does not
MOVES_BY, MOVING_WEIGHT = 0.02, 3.0  # image widths between frames; against what stays
HISTORY_WEIGHT = 3.0
TRACK_WEIGHT = 8.0
"""Of the place of a token's object in each frame of the clip: to predict it, a token must find its
object in the other frames, and its events follow."""


@dataclass(frozen=True)
class ClipLabels:
    """Labels of B clips; P patches in the order time, row, column, O objects, K event kinds.

    `owner` (B, P) int64: the object, `NO_OWNER` or `UNDECIDED`; of the objects: `shape` (B, O)
    int64; `colour` (B, O, 4) int64 at every frame; `track` (B, O, 4, 4) float32: x, y, radius,
    1 where visible; `actions` (B, O, K) float32, -1 where undecided; of the page:
    `background` and `count`, objects seen in this clip, (B,) int64.
    """

    owner: Tensor
    shape: Tensor
    colour: Tensor
    track: Tensor
    actions: Tensor
    background: Tensor
    count: Tensor


def clip_labels(
    owners: NDArray[np.uint8], tables: ObjectTables, backgrounds: list[str]
) -> ClipLabels:
    """Return the labels of the clips of V videos, B = V * `NUM_CLIPS`.

    Args:
        owners: (V, T, G * G), as `VideoCache` has them.
        tables: of the V videos.
        backgrounds: the name of each video's background.
    """
    number = len(owners) * NUM_CLIPS
    owner = owners.astype(np.int64).reshape(number, PATCHES)
    owner = np.where(owner == EMPTY, NO_OWNER, np.where(owner == EDGE, UNDECIDED, owner))
    size = (number // NUM_CLIPS, MAX_OBJECTS, NUM_CLIPS, CLIP_FRAMES)
    colour = tables.colour.reshape(size).transpose(0, 2, 1, 3)
    track = tables.track.reshape(*size, 4).transpose(0, 2, 1, 3, 4)
    track = track.reshape(number, MAX_OBJECTS, CLIP_FRAMES, 4)
    shape = tables.shape.repeat(NUM_CLIPS, axis=0)
    seen = (track[..., 3] > 0).any(axis=2) & (shape >= 0)
    names = [BACKGROUNDS.index(name) for name in backgrounds for _ in range(NUM_CLIPS)]
    return ClipLabels(
        owner=torch.from_numpy(owner),
        shape=torch.from_numpy(shape),
        colour=torch.from_numpy(colour.reshape(number, MAX_OBJECTS, CLIP_FRAMES).copy()),
        track=torch.from_numpy(track.copy()),
        actions=torch.from_numpy(
            tables.actions.swapaxes(1, 2).reshape(number, MAX_OBJECTS, -1).astype(np.float32)
        ),
        background=torch.tensor(names),
        count=torch.from_numpy(seen.sum(axis=1)),
    )


def merge_with(tokens: Tensor, extra: Tensor, num_heads: int, target: int) -> tuple[Tensor, Tensor]:
    """Merge tokens as the package's `merge_tokens` does, and sum `extra` along.

    Args:
        tokens: (B, P, C) float32; gradients pass.
        extra: (B, P, E) float32; tokens that become one have theirs added.
        num_heads: as `merge_tokens` takes it.
        target: tokens left.

    Returns:
        (B, target, C) and (B, target, E).
    """
    sizes = tokens.new_ones(*tokens.shape[:2], 1)
    while (count := tokens.shape[1]) > target:
        with torch.no_grad():
            metric = tokens.unflatten(-1, (num_heads, -1)).mean(dim=2)
            metric = functional.normalize(metric, dim=-1)
            best, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(dim=-1)
            order = best.argsort(dim=-1, descending=True)
            merged = min(count // 2, count - target)
            going, staying = order[:, :merged, None], order[:, merged:, None]
            into = partner[..., None].gather(1, going)
        joined = []
        for values in (sizes, tokens * sizes, extra):
            across = (-1, -1, values.shape[-1])
            even, odd = values[:, ::2], values[:, 1::2]
            moved = even.gather(1, going.expand(across))
            summed = odd.scatter_add(1, into.expand(across), moved)
            joined.append(torch.cat([even.gather(1, staying.expand(across)), summed], dim=1))
        sizes, extra = joined[0], joined[2]
        tokens = joined[1] / sizes
    return tokens, extra


def merge_loss(tokens: Tensor, owner: Tensor, num_heads: int) -> Tensor:
    """Return how far patches are from finding a patch of the same owner when they are merged."""
    metric = tokens.unflatten(-1, (num_heads, -1)).mean(dim=2)
    metric = functional.normalize(metric, dim=-1)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2) / TEMPERATURE
    mine, other = owner[:, ::2, None], owner[:, None, 1::2]
    same = (mine == other) & (mine != UNDECIDED)
    known = (other != UNDECIDED).expand_as(same)
    own = scores.masked_fill(~same, -1e4).logsumexp(dim=2)
    whole = scores.masked_fill(~known, -1e4).logsumexp(dim=2)
    decided = same.any(dim=2)
    covered = decided & (owner[:, ::2] < NO_OWNER)
    lost = whole - own
    return lost[covered].mean() + 0.5 * lost[decided & ~covered].mean()


class TokenHeads(nn.Module):
    """Linear heads on the tokens of one place in the model."""

    def __init__(self, width: int) -> None:
        """Make the heads for tokens of `width` channels."""
        super().__init__()
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.colours = nn.ModuleList(nn.Linear(width, len(COLOURS)) for _ in range(2))
        self.background = nn.Linear(width, len(BACKGROUNDS))
        self.count = nn.Linear(width, MAX_OBJECTS + 1)
        self.box = nn.Linear(width, 6)
        self.way = nn.Linear(width, 3 * CLIP_FRAMES)
        self.history = nn.Linear(width, CLIP_FRAMES)
        self.ends = nn.Linear(width, 2)
        self.actions = nn.Linear(width, len(EVENT_KINDS))

    def page_loss(self, tokens: Tensor, labels: ClipLabels) -> Tensor:
        """Return the loss of background and count, which every token predicts; tokens (B, P, C)."""
        each = tokens.shape[1]
        background = labels.background.repeat_interleave(each)
        count = labels.count.repeat_interleave(each)
        flat = tokens.flatten(0, 1)
        return 0.2 * functional.cross_entropy(self.background(flat), background) + (
            0.2 * functional.cross_entropy(self.count(flat), count)
        )

    def object_loss(self, tokens: Tensor, clip: Tensor, item: Tensor, labels: ClipLabels) -> Tensor:
        """Return the loss of N tokens (N, C) of objects `item` (N,) of clips `clip` (N,)."""
        loss = functional.cross_entropy(self.shape(tokens), labels.shape[clip, item])
        for head, frame in zip(self.colours, (0, -1), strict=True):
            loss += 0.4 * functional.cross_entropy(head(tokens), labels.colour[clip, item, frame])
        ends = labels.track[clip, item][:, [0, -1], 3]
        loss += 0.5 * functional.binary_cross_entropy_with_logits(self.ends(tokens), ends)
        track = labels.track[clip, item]
        predicted = self.way(tokens).unflatten(1, (CLIP_FRAMES, 3))
        wrong = functional.smooth_l1_loss(predicted, track[..., :3], beta=0.02, reduction="none")
        moves = (track[:, 1:, :3] - track[:, :-1, :3]).abs().amax(dim=(1, 2)) > MOVES_BY
        seen = track[..., 3] * torch.where(moves, MOVING_WEIGHT, 1.0)[:, None]
        loss += TRACK_WEIGHT * (wrong.sum(dim=2) * seen).sum() / seen.sum()
        actions = labels.actions[clip, item]
        each = functional.binary_cross_entropy_with_logits(
            self.actions(tokens), actions.clamp(min=0), reduction="none"
        )
        weights = torch.where(actions < 0, 0.0, torch.where(actions > 0, DONE_WEIGHT, 1.0))
        return loss + 0.4 * len(EVENT_KINDS) * (each * weights).sum() / weights.sum()


def speeds(track: Tensor) -> Tensor:
    """Return the change of (..., T, 4) tracks around each frame, (..., T, 3), per frame."""
    values = track[..., :3]
    inner = (values[..., 2:, :] - values[..., :-2, :]) / 2
    first = values[..., 1:2, :] - values[..., :1, :]
    last = values[..., -1:, :] - values[..., -2:-1, :]
    return torch.cat([first, inner, last], dim=-2)


def history_loss(heads: TokenHeads, tokens: Tensor, labels: ClipLabels) -> Tensor:
    """Return the loss of when an object covers the place of a patch; tokens (B, P, C).

    What moves is first seen in that a place is covered in some frames and not in others.
    """
    frames = labels.owner.unflatten(1, (CLIP_FRAMES, -1)).transpose(1, 2)  # (B, G * G, frames)
    covered = (frames < NO_OWNER).float().repeat(1, CLIP_FRAMES, 1)
    known = (frames != UNDECIDED).float().repeat(1, CLIP_FRAMES, 1)
    changes = (covered.amax(dim=2) > covered.amin(dim=2)).float()[..., None]
    weights = known * (0.1 + covered + changes)
    each = functional.binary_cross_entropy_with_logits(
        heads.history(tokens), covered, reduction="none"
    )
    return HISTORY_WEIGHT * (each * weights).sum() / weights.sum()


def patch_loss(heads: TokenHeads, tokens: Tensor, labels: ClipLabels) -> Tensor:
    """Return the loss of the tower's tokens (B, P, C) before merging."""
    loss = 0.5 * heads.page_loss(tokens[:, ::9], labels)
    empty = labels.owner == NO_OWNER
    nothing = torch.full((int(empty.sum()),), len(SHAPES))
    loss += 0.5 * functional.cross_entropy(heads.shape(tokens[empty]), nothing)
    clip, place = (labels.owner < NO_OWNER).nonzero(as_tuple=True)
    item, frame = labels.owner[clip, place], place // (GRID * GRID)
    mine = tokens[clip, place]
    loss += heads.object_loss(mine, clip, item, labels)
    track = labels.track[clip, item]
    moves = 4 * speeds(track)[torch.arange(len(clip)), frame]
    wanted = torch.cat([track[torch.arange(len(clip)), frame, :3], moves], dim=1)
    return loss + 4 * functional.smooth_l1_loss(heads.box(mine), wanted, beta=0.1)


def owner_masses(labels: ClipLabels) -> Tensor:
    """Return (B, P, O + 1 + 3): 1 for a patch's owner, then x, y, radius of its object there."""
    owner = labels.owner
    masses = functional.one_hot(owner, UNDECIDED + 1)[..., : NO_OWNER + 1].float()
    frame = torch.arange(PATCHES) // (GRID * GRID)
    clip = torch.arange(len(owner))[:, None].expand_as(owner)
    known = owner < NO_OWNER
    boxes = labels.track[clip, owner.clamp(max=NO_OWNER - 1), frame.expand_as(owner), :3]
    return torch.cat([masses, boxes * known[..., None]], dim=-1)


def merged_owner(masses: Tensor) -> Tensor:
    """Return (B, 64) which object has most of a merged token; `NO_OWNER` where none has any.

    Args:
        masses: (B, 64, O + 1 + 3), `owner_masses` summed by `merge_with`.
    """
    own = masses[..., :NO_OWNER]
    share = own / masses[..., : NO_OWNER + 1].sum(dim=-1, keepdim=True).clamp(min=1)
    best = share.max(dim=-1)
    owner = torch.where(best.values >= 0.4, best.indices, UNDECIDED)
    return torch.where(best.values <= 0.05, NO_OWNER, owner)


def merged_loss(heads: TokenHeads, tokens: Tensor, masses: Tensor, labels: ClipLabels) -> Tensor:
    """Return the loss of the merged tokens (B, 64, C); `masses` as `merged_owner` takes them."""
    owner = merged_owner(masses)
    empty = owner == NO_OWNER
    nothing = torch.full((int(empty.sum()),), len(SHAPES))
    loss = heads.page_loss(tokens, labels)
    loss += 0.5 * functional.cross_entropy(heads.shape(tokens[empty]), nothing)
    clip, place = (owner < NO_OWNER).nonzero(as_tuple=True)
    item, mine = owner[clip, place], tokens[clip, place]
    loss += heads.object_loss(mine, clip, item, labels)
    total = masses[clip, place, :NO_OWNER].sum(dim=-1, keepdim=True).clamp(min=1)
    boxes = masses[clip, place, NO_OWNER + 1 :] / total
    return loss + 4 * functional.smooth_l1_loss(heads.box(mine)[:, :3], boxes, beta=0.1)
