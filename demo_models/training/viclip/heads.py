"""Labels of patches in space and time that the demo ViCLIP learns beside the texts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from demo_models.training.clip.data import EMPTY, NO_BACKGROUND
from demo_models.training.viclip.data import NUM_FRAMES, STILL, VideoLabels
from demo_models.world.motion import EVENT_KINDS
from demo_models.world.vocabulary import COLOURS, SHAPES

SCALE = torch.tensor([1.0, 1.0, 4.0])
"""Of x, y and radius in the loss: radii differ less than places, and changes of theirs too."""

PATCH_FIELDS = ("owners", "shape", "colour", "now", "boxes", "pace", "ever")


def stack_labels(labels: list[VideoLabels]) -> dict[str, Tensor]:
    """Return the labels of a batch; those of patches (B, 512, ...) in the tower's own order.

    That is patch by patch, the frames of each in turn.
    """
    tables = {}
    for name in PATCH_FIELDS:
        stacked = np.stack([getattr(one, name) for one in labels])  # (B, 8, 64, ...)
        tables[name] = torch.from_numpy(stacked).transpose(1, 2).flatten(1, 2)
    tables["background"] = torch.tensor([one.background for one in labels])
    tables["count"] = torch.tensor([one.count for one in labels])
    tables["kinds"] = torch.from_numpy(np.stack([one.kinds for one in labels]))
    return tables


def choose_tokens(
    owners: Tensor, keep: int, generator: torch.Generator, by_place: bool = False
) -> Tensor:
    """Return which `keep` patches of each video are trained on, (B, keep) int64.

    In most videos patches of objects come first, in the others all are alike.

    Args:
        owners: (B, 512) uint8.
        keep: number of patches, at most 512.
        generator: source of randomness.
        by_place: Let empty patches of places where an object is at other times come second, so
            that it can be seen that it is not there yet, or not any more.
    """
    score = torch.rand(owners.shape, generator=generator)
    biased = torch.rand((len(owners), 1), generator=generator) < 0.85
    covered = owners != EMPTY
    score += 0.8 * (covered & biased)
    if by_place:
        ever = covered.unflatten(1, (-1, NUM_FRAMES)).any(dim=2, keepdim=True)
        empty = ever.expand(-1, -1, NUM_FRAMES).flatten(1) & ~covered
        score += 0.4 * (empty & biased)
    return score.topk(keep, dim=1).indices.sort(dim=1).values


def take(tables: dict[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    """Return the labels of the chosen patches only."""
    rows = torch.arange(len(chosen))[:, None]
    return {
        name: table[rows, chosen] if name in PATCH_FIELDS else table
        for name, table in tables.items()
    }


class MotionHeads(nn.Module):
    """Linear heads on the patches of all frames; they are discarded after training."""

    def __init__(self, width: int) -> None:
        """Make the heads for tokens of `width` channels."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.colour = nn.Linear(width, len(COLOURS) + 1)
        self.background = nn.Linear(width, NO_BACKGROUND + 1)
        self.now = nn.Linear(width, STILL + 1)
        self.ever = nn.Linear(width, len(EVENT_KINDS))
        self.box = nn.Linear(width, 3)
        self.pace = nn.Linear(width, 3)
        self.count = nn.Linear(width, 4)
        self.kinds = nn.Linear(width, len(EVENT_KINDS))

    def forward(
        self, patches: Tensor, pooled: Tensor, labels: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses by name; patches of objects and empty ones are averaged separately.

        Args:
            patches: (B, N, D) float32, of the second-last layer, without the class token.
            pooled: (B, D) float32, the class token after the last layer.
            labels: of the same patches, as `stack_labels` gives them.
        """
        flat = self.norm(patches).flatten(0, 1)
        shape = labels["shape"].flatten()
        covered, empty = (shape >= 0) & (shape < len(SHAPES)), shape == len(SHAPES)
        each = labels["background"][:, None].expand(-1, patches.shape[1]).flatten()
        losses = {
            "shape": 0.3 * functional.cross_entropy(self.shape(flat[empty]), shape[empty])
            + functional.cross_entropy(self.shape(flat[covered]), shape[covered]),
            "background": 0.1 * functional.cross_entropy(self.background(flat), each),
            "kinds": 2.0
            * functional.binary_cross_entropy_with_logits(self.kinds(pooled), labels["kinds"])
            + 0.2 * functional.cross_entropy(self.count(pooled), labels["count"]),
        }
        mine = flat[covered]
        losses["colour"] = 0.5 * functional.cross_entropy(
            self.colour(mine), labels["colour"].flatten()[covered]
        )
        losses["now"] = 0.7 * functional.cross_entropy(
            self.now(mine), labels["now"].flatten()[covered]
        )
        losses["ever"] = 2.0 * functional.binary_cross_entropy_with_logits(
            self.ever(mine), labels["ever"].flatten(0, 1)[covered]
        )
        for name, head, weight in (("box", self.box, 2.0), ("pace", self.pace, 3.0)):
            target = labels["boxes" if name == "box" else name].flatten(0, 1)[covered] * SCALE
            losses[name] = weight * functional.smooth_l1_loss(head(mine), target, beta=0.1)
        return losses
