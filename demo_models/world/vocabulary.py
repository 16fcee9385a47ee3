"""The words of the demo world: shapes, colours, backgrounds and which pairs are held out."""

from __future__ import annotations

import math

Rgb = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)
BACKGROUNDS = ("white", "grey", "black", "blue", "green", "yellow", "pink")
STYLES = ("plain", "gradient", "noise", "stripes", "checker", "blobs")

ANCHORS: dict[str, tuple[Rgb, ...]] = {
    "red": ((255, 0, 0), (237, 28, 36), (220, 38, 38), (190, 20, 25), (244, 67, 54)),
    "orange": ((255, 127, 39), (255, 165, 0), (255, 140, 0), (249, 115, 22)),
    "yellow": ((255, 255, 0), (255, 242, 0), (250, 215, 30), (255, 230, 80)),
    "green": ((0, 128, 0), (34, 177, 76), (0, 255, 0), (76, 175, 80), (22, 120, 50)),
    "blue": ((0, 0, 255), (63, 72, 204), (33, 150, 243), (37, 99, 235), (0, 162, 232)),
    "purple": ((128, 0, 128), (163, 73, 164), (147, 51, 234), (106, 27, 154)),
    "pink": ((255, 174, 201), (255, 105, 180), (255, 192, 203), (240, 98, 170)),
    "brown": ((150, 75, 0), (139, 69, 19), (121, 85, 72), (101, 60, 20), (185, 122, 87)),
    "black": ((0, 0, 0), (20, 20, 20), (35, 32, 38)),
    "white": ((255, 255, 255), (248, 248, 248), (240, 240, 236)),
}
"""Anchor colours (0..255) of each name, among them those of common paint programs."""

BACKGROUND_ANCHORS: dict[str, tuple[Rgb, ...]] = {
    "white": ((255, 255, 255), (255, 255, 255), (246, 246, 246), (250, 248, 242)),
    "grey": ((127, 127, 127), (160, 160, 160), (185, 185, 188), (110, 112, 116)),
    "black": ((0, 0, 0), (18, 18, 20), (30, 28, 34)),
    "blue": ((120, 170, 235), (60, 110, 210), (30, 60, 160), (150, 200, 250)),
    "green": ((120, 200, 120), (60, 150, 80), (25, 100, 50), (170, 225, 160)),
    "yellow": ((255, 235, 120), (245, 215, 70), (250, 240, 160)),
    "pink": ((255, 190, 210), (245, 150, 190), (255, 215, 225)),
}

HELD_OUT_PAIRS: tuple[tuple[str, str], ...] = (
    ("brown", "circle"),
    ("purple", "square"),
    ("pink", "triangle"),
    ("blue", "star"),
    ("brown", "star"),
    ("green", "heart"),
    ("orange", "heart"),
    ("orange", "ring"),
    ("white", "ring"),
    ("yellow", "cross"),
    ("red", "moon"),
    ("black", "moon"),
)
"""Pairs (colour, shape) that no training picture and no training text shows together."""

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
