"""Extra labels for the Q-Former: each of its 16 queries answers for one cell of a 4 x 4 grid.

The object in a cell is named by that cell's query: shape, colour, place and size. The language
model then finds an object, its place and the number of objects by looking at the right query.
The heads are thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from demo_models.clip_data import NO_BACKGROUND
from demo_models.scenes import Scene
from demo_models.vocabulary import BACKGROUNDS, COLOURS, SHAPES

SIDE = 4
NUM_SLOTS = SIDE * SIDE
IGNORE = -100


def slots_of(scene: Scene) -> NDArray[np.int64]:
    """Return the cell of each object: the free cell nearest to its centre, large ones first."""
    axis = (np.arange(SIDE) + 0.5) / SIDE
    centres = np.stack([np.tile(axis, SIDE), np.repeat(axis, SIDE)], axis=1)
    taken = np.zeros(NUM_SLOTS, dtype=bool)
    cells = np.zeros(len(scene.objects), dtype=np.int64)
    for index in sorted(range(len(cells)), key=lambda i: -scene.objects[i].radius):
        item = scene.objects[index]
        distances = np.hypot(*(centres - (item.x, item.y)).T)
        cells[index] = int(np.where(taken, np.inf, distances).argmin())
        taken[cells[index]] = True
    return cells


def slot_labels(
    scenes: Sequence[Scene | None], backgrounds: Sequence[str | None]
) -> dict[str, Tensor]:
    """Return the labels of a batch.

    Returns:
        "shape", "colour" (B, 16) int64, the last shape for an empty cell, `IGNORE` for its
        colour; "box" (B, 16, 3) float32: x, y, radius; "background" (B,) int64.
    """
    shape = np.full((len(scenes), NUM_SLOTS), len(SHAPES), dtype=np.int64)
    colour = np.full((len(scenes), NUM_SLOTS), IGNORE, dtype=np.int64)
    box = np.zeros((len(scenes), NUM_SLOTS, 3), dtype=np.float32)
    for row, scene in enumerate(scenes):
        if scene is None:
            continue
        for cell, item in zip(slots_of(scene), scene.objects, strict=True):
            shape[row, cell] = SHAPES.index(item.shape)
            colour[row, cell] = COLOURS.index(item.colour)
            box[row, cell] = (item.x, item.y, item.radius)
    names = [BACKGROUNDS.index(name) if name else NO_BACKGROUND for name in backgrounds]
    return {
        "shape": torch.from_numpy(shape),
        "colour": torch.from_numpy(colour),
        "box": torch.from_numpy(box),
        "background": torch.tensor(names),
    }


class SlotHeads(nn.Module):
    """Linear heads on the queries."""

    def __init__(self, width: int) -> None:
        """Make the heads for queries of `width` channels."""
        super().__init__()
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.colour = nn.Linear(width, len(COLOURS))
        self.background = nn.Linear(width, NO_BACKGROUND + 1)
        self.box = nn.Linear(width, 3)

    def forward(self, queries: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Return the summed loss of queries (B, 16, D); full and empty cells averaged apart."""
        shape = labels["shape"]
        full, empty = shape < len(SHAPES), shape == len(SHAPES)
        found = self.shape(queries)
        each = labels["background"][:, None].expand(shape.shape)
        loss = functional.cross_entropy(found[empty], shape[empty])
        loss += 0.2 * functional.cross_entropy(
            self.background(queries).flatten(0, 1), each.flatten()
        )
        if full.any():
            mine = queries[full]
            loss += functional.cross_entropy(found[full], shape[full])
            loss += functional.cross_entropy(self.colour(mine), labels["colour"][full])
            box = functional.smooth_l1_loss(self.box(mine), labels["box"][full], beta=0.1)
            loss += 4.0 * box
        return loss
