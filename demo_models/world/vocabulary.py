"""The words of the demo world: shapes, colours, backgrounds and which pairs are held out."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

Rgb = tuple[int, int, int]

_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def _anchors(table: dict[str, list[list[int]]]) -> dict[str, tuple[Rgb, ...]]:
    return {name: tuple((r, g, b) for r, g, b in rgbs) for name, rgbs in table.items()}


ANCHORS = _anchors(_WORDS["colours"])
"""Anchor colours (0..255) of each name, among them those of common paint programs."""

BACKGROUND_ANCHORS = _anchors(_WORDS["backgrounds"])
SHAPES: tuple[str, ...] = tuple(_WORDS["shapes"])
COLOURS, BACKGROUNDS = tuple(ANCHORS), tuple(BACKGROUND_ANCHORS)
STYLES: tuple[str, ...] = tuple(_WORDS["styles"])
HELD_OUT_PAIRS = tuple((colour, shape) for colour, shape in _WORDS["held_out_pairs"])
"""Pairs (colour, shape) that no training image and no training text shows together."""

ALL_PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
SEEN_PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS)
SCENE_BANK = tuple(f"a photo of a {colour} {shape}" for colour, shape in ALL_PAIRS)
"""One prompt for each of the 80 pairs, in the order of `ALL_PAIRS`."""


def colour_distance(first: Rgb, second: Rgb) -> float:
    """Return a weighted RGB distance (0..765) that roughly follows what eyes see.

    Source: the "redmean" formula, https://www.compuphase.com/cmetric.htm.
    """
    red_mean = (first[0] + second[0]) / 2
    red, green, blue = (a - b for a, b in zip(first, second, strict=True))
    weights = (2 + red_mean / 256, 4.0, 2 + (255 - red_mean) / 256)
    return math.sqrt(weights[0] * red**2 + weights[1] * green**2 + weights[2] * blue**2)
