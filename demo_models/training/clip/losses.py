"""Losses of the demo CLIP: contrast with known truth, matching pairs, and dense labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from demo_models.training.clip.data import NO_BACKGROUND
from demo_models.world.vocabulary import COLOURS, SHAPES


def soft_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the cross-entropy of each row against an even share for every true column.

    Args:
        logits: (R, C) float.
        truth: (R, C) int: 1 true, 0 false, -1 undecided. Undecided cells take no part, rows
            without a true cell are skipped.

    Returns:
        The mean over the rows, a scalar.
    """
    logits = logits.masked_fill(truth < 0, -1e4)
    positive = (truth == 1).float()
    rows = positive.sum(dim=1) > 0
    share = positive[rows] / positive[rows].sum(dim=1, keepdim=True)
    return -(share * functional.log_softmax(logits[rows], dim=1)).sum(dim=1).mean()


def contrastive_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of `soft_cross_entropy` over texts and over images; both (T, B)."""
    return (soft_cross_entropy(logits, truth) + soft_cross_entropy(logits.T, truth.T)) / 2


class MatchLoss(nn.Module):
    """A yes-or-no loss for each pair, so that cosines mean the same for every image."""

    def __init__(self) -> None:
        """Start with the threshold at a cosine of 0.3."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.threshold = nn.Parameter(torch.tensor(0.3))

    def forward(self, cosines: Tensor, truth: Tensor) -> Tensor:
        """Return the loss, true and false pairs weighing the same; shapes as above."""
        logits = self.log_scale.exp() * (cosines - self.threshold)
        yes = functional.softplus(-logits[truth == 1]).mean()
        no = functional.softplus(logits[truth == 0])
        hardest = no.topk(max(1, no.numel() // 50)).values
        return 0.5 * yes + 0.25 * no.mean() + 0.25 * hardest.mean()


class DenseHeads(nn.Module):
    """Linear heads on patch tokens; they are discarded after training."""

    def __init__(self, width: int) -> None:
        """Make the heads for tokens of `width` channels."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.colour = nn.Linear(width, len(COLOURS) + 1)
        self.background = nn.Linear(width, NO_BACKGROUND + 1)
        self.box = nn.Linear(width, 3)
        self.count = nn.Linear(width, 5)

    def forward(self, tokens: Tensor, pooled: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Return the summed loss; patches of objects and empty ones are averaged separately.

        Args:
            tokens: (B, 1 + 64, D), the second-last layer, class token first.
            pooled: (B, D), the class token after the last layer.
            labels: The arrays of `Batch` of the same names.
        """
        patches = self.norm(tokens[:, 1:])
        each = labels["background"][:, None].expand(-1, patches.shape[1]).flatten()
        flat = patches.flatten(0, 1)  # (B*64, D)
        shape, colour = labels["patch_shape"].flatten(), labels["patch_colour"].flatten()
        boxes = labels["boxes"].flatten(0, 1)
        loss = 0.2 * functional.cross_entropy(self.count(pooled), labels["num_objects"])
        loss += 0.1 * functional.cross_entropy(self.background(flat), each)
        covered, empty = (shape >= 0) & (shape < len(SHAPES)), shape == len(SHAPES)
        for part, weight in ((covered, 1.0), (empty, 0.3)):
            loss += weight * functional.cross_entropy(self.shape(flat[part]), shape[part])
            loss += weight / 2 * functional.cross_entropy(self.colour(flat[part]), colour[part])
        for part, weight in ((covered, 2.0), (empty, 1.0)):
            error = functional.smooth_l1_loss(self.box(flat[part]), boxes[part], beta=0.1)
            loss += weight * error
        return loss
