"""Extra labels for the Q-Former: each of its 16 queries answers for one cell of a 4 x 4 grid.

The object in a cell is named by that cell's query: shape, colour, place and size. The language
model then finds an object, its place and the number of objects by looking at the right query.
In the stages with `Stage.attention` the answers' names of place and size are labels too, and the
language model learns which query a question is about. The heads are thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from demo_models.language.questions import PLACES_OF_OBJECTS, place_name
from demo_models.language.statements import has_size
from demo_models.training.clip.data import NO_BACKGROUND
from demo_models.world.scenes import Scene
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES

SIDE = 4
NUM_SLOTS = SIDE * SIDE
IGNORE = -100
MAX_OBJECTS = 4


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
        colour; "place", "size" (B, 16) int64, `IGNORE` where there is none or it is doubtful;
        "box" (B, 16, 3) float32: x, y, radius; "background" (B,) int64; "number" (B,) int64 of
        objects; "cells" (B, 4) int64: the cell of each object, -1 where there is none.
    """
    shape = np.full((len(scenes), NUM_SLOTS), len(SHAPES), dtype=np.int64)
    colour = np.full((len(scenes), NUM_SLOTS), IGNORE, dtype=np.int64)
    place, size = np.full_like(colour, IGNORE), np.full_like(colour, IGNORE)
    cells = np.full((len(scenes), MAX_OBJECTS), -1, dtype=np.int64)
    box = np.zeros((len(scenes), NUM_SLOTS, 3), dtype=np.float32)
    for row, scene in enumerate(scenes):
        if scene is None:
            continue
        cells[row, : len(scene.objects)] = slots_of(scene)
        for cell, item in zip(cells[row], scene.objects, strict=False):
            shape[row, cell] = SHAPES.index(item.shape)
            colour[row, cell] = COLOURS.index(item.colour)
            box[row, cell] = (item.x, item.y, item.radius)
            named = place_name(item)
            place[row, cell] = PLACES_OF_OBJECTS.index(named) if named else IGNORE
            sizes = [has_size(item, name) for name in ("small", "large")]
            size[row, cell] = sizes.index(True) if True in sizes else IGNORE
    names = [BACKGROUNDS.index(name) if name else NO_BACKGROUND for name in backgrounds]
    return {
        "shape": torch.from_numpy(shape),
        "colour": torch.from_numpy(colour),
        "box": torch.from_numpy(box),
        "background": torch.tensor(names),
        "place": torch.from_numpy(place),
        "size": torch.from_numpy(size),
        "number": torch.tensor([len(scene.objects) if scene else 0 for scene in scenes]),
        "cells": torch.from_numpy(cells),
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
        """Return the loss of queries (B, 16, D); full and empty cells are averaged separately."""
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


class NameHeads(nn.Module):
    """Linear heads on the queries for the words of the answers: place, size and number."""

    def __init__(self, width: int) -> None:
        """Make the heads for queries of `width` channels."""
        super().__init__()
        self.place = nn.Linear(width, len(PLACES_OF_OBJECTS))
        self.size = nn.Linear(width, 2)
        self.number = nn.Linear(width, MAX_OBJECTS + 1)

    def forward(self, queries: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Return the summed loss of queries (B, 16, D); their mean predicts the number."""
        loss = functional.cross_entropy(self.number(queries.mean(dim=1)), labels["number"])
        for name in ("place", "size"):
            known = labels[name] != IGNORE
            if known.any():
                found = getattr(self, name)(queries[known])
                loss += functional.cross_entropy(found, labels[name][known])
        return loss


def attention_loss(attention: Tensor, about: Tensor, cells: Tensor) -> Tensor:
    """Return the loss of attention from the answers to the query of the object asked about.

    Args:
        attention: (B, H, I + L, I + L), of the language model's last layer, H >= 2. The first
            head is to look at the first object that a question names, the second at the last.
        about: (B, 2, L), as in `PackedTexts`.
        cells: (B, 4), as in `slot_labels`.
    """
    rows, heads, tokens = torch.nonzero(about >= 0, as_tuple=True)
    if len(rows) == 0:
        return attention.new_zeros(())
    num_image_tokens = attention.shape[-1] - about.shape[-1]
    wanted = cells[rows, about[rows, heads, tokens]]
    shares = attention[rows, heads, num_image_tokens + tokens, wanted].float()
    return -(shares + 1e-3).log().mean()
