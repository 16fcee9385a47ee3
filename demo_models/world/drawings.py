"""Drawings of single shapes as in a paint program; never used for training.

This is deliberately another renderer than `scenes`: its own geometry, the program's own
tools (ellipse, rectangle, polygon, brush), hard edges, pure palette colours, a white page of
any size. It measures how a model trained on `scenes` generalises to a visitor's drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from demo_models.world.vocabulary import SHAPES, Rgb

PAGES = ((200, 200), (320, 240), (400, 300), (512, 512), (640, 480), (800, 600), (1024, 768))
TECHNIQUES = ("tool", "freehand", "outline")
PALETTE: dict[str, tuple[Rgb, ...]] = {
    "red": ((237, 28, 36), (255, 0, 0)),
    "orange": ((255, 127, 39), (255, 165, 0)),
    "yellow": ((255, 242, 0), (255, 255, 0)),
    "green": ((34, 177, 76), (0, 128, 0), (0, 255, 0)),
    "blue": ((63, 72, 204), (0, 0, 255), (0, 162, 232)),
    "purple": ((163, 73, 164), (128, 0, 128)),
    "pink": ((255, 174, 201), (255, 105, 180)),
    "brown": ((185, 122, 87), (139, 69, 19)),
    "black": ((0, 0, 0),),
}
WHITE: Rgb = (255, 255, 255)
Rng = np.random.Generator
Corner = tuple[float, float]


@dataclass(frozen=True)
class Drawing:
    """One drawing: what it shows and how it was drawn."""

    image: Image.Image
    colour: str
    shape: str
    technique: str


@dataclass(frozen=True)
class Pen:
    """Centre and half-extent of a shape in px, and its colour."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    half_width: float
    half_height: float
    rgb: Rgb

    def at(self, corners: list[Corner]) -> list[Corner]:
        """Move corners of the unit square [-1, 1] to the page."""
        return [(self.x + u * self.half_width, self.y + v * self.half_height) for u, v in corners]

    def box(self, scale: float = 1.0, shift: float = 0.0) -> tuple[float, float, float, float]:
        """Return the ellipse tool's box (x0, y0, x1, y1), scaled, moved right by `shift`."""
        centre = self.x + shift * self.half_width
        wide, high = scale * self.half_width, scale * self.half_height
        return centre - wide, self.y - high, centre + wide, self.y + high


def _star_corners(inner: float) -> list[Corner]:
    corners = []
    for index in range(10):
        radius = 1.0 if index % 2 == 0 else inner
        angle = np.pi * index / 5 - np.pi / 2
        corners.append((float(radius * np.cos(angle)), float(radius * np.sin(angle))))
    return corners


def _cross_corners(arm: float) -> list[Corner]:
    a = arm
    return [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a),
            (-1, a), (-1, -a), (-a, -a)]  # fmt: skip


def _arc(centre: Corner, radius: float, start_deg: float, end_deg: float) -> list[Corner]:
    angles = np.deg2rad(np.linspace(start_deg, end_deg, 24))
    return [
        (float(centre[0] + radius * np.cos(a)), float(centre[1] + radius * np.sin(a)))
        for a in angles
    ]


def _heart_corners() -> list[Corner]:
    left = _arc((-0.5, -0.4), 0.52, 140, 340)
    right = _arc((0.5, -0.4), 0.52, 200, 400)
    return [*left, *right, (0.0, 1.0)]


def _moon_corners() -> list[Corner]:
    return [*_arc((0.0, 0.0), 1.0, 50, 310), *reversed(_arc((0.35, 0.0), 0.82, 70, 290))]


def _corners(shape: str, rng: Rng) -> list[Corner]:
    if shape in ("circle", "ring"):
        return _arc((0.0, 0.0), 1.0, 0, 345)
    return {
        "square": [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
        "triangle": [(0.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
        "star": _star_corners(float(rng.uniform(0.38, 0.5))),
        "heart": _heart_corners(),
        "cross": _cross_corners(float(rng.uniform(0.15, 0.33))),
        "moon": _moon_corners(),
    }[shape]


def _with_tool(pen: Pen, shape: str, rng: Rng) -> None:
    """Use the program's own shape tools, filled."""
    if shape == "circle":
        pen.draw.ellipse(pen.box(), fill=pen.rgb)
    elif shape == "ring":
        pen.draw.ellipse(pen.box(), fill=pen.rgb)
        pen.draw.ellipse(pen.box(float(rng.uniform(0.5, 0.72))), fill=WHITE)
    elif shape == "moon":
        pen.draw.ellipse(pen.box(), fill=pen.rgb)
        pen.draw.ellipse(pen.box(0.85, float(rng.choice([-1, 1])) * 0.45), fill=WHITE)
    elif shape == "square":
        pen.draw.rectangle(pen.box(), fill=pen.rgb)
    else:
        pen.draw.polygon(pen.at(_corners(shape, rng)), fill=pen.rgb)


def _unsteady(corners: list[Corner], rng: Rng) -> list[Corner]:
    """Walk round the corners as a hand does: slow drift, and corners cut a little."""
    path: list[Corner] = []
    drift = np.zeros(2)
    for index, (u, v) in enumerate(corners):
        next_u, next_v = corners[(index + 1) % len(corners)]
        length = float(np.hypot(next_u - u, next_v - v))
        steps = max(1, round(length * 8))
        for step in range(steps):
            drift = 0.85 * drift + rng.normal(0, 0.016, 2)
            share = step / steps
            path.append(
                (
                    u + share * (next_u - u) + float(drift[0]),
                    v + share * (next_v - v) + float(drift[1]),
                )
            )
    return path


def _brush(pen: Pen, path: list[Corner], width: float) -> None:
    """Drag a round brush along the path."""
    points = pen.at(path)
    radius = width / 2
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        for share in np.linspace(0, 1, max(2, int(np.hypot(x1 - x0, y1 - y0) / radius) + 2)):
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            pen.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=pen.rgb)


def _freehand(pen: Pen, shape: str, rng: Rng) -> None:
    """Draw the outline by hand and fill it; rings and crosses are brush strokes."""
    extent = min(pen.half_width, pen.half_height)
    if shape == "ring":
        path = _unsteady(_corners("circle", rng), rng)
        _brush(pen, [*path, *path[:8]], extent * float(rng.uniform(0.25, 0.5)))
    elif shape == "cross":
        width = extent * float(rng.uniform(0.25, 0.5))
        ends = ((-1.0, 0.0), (1.0, 0.0)), ((0.0, -1.0), (0.0, 1.0))
        if rng.random() < 0.35:
            ends = ((-0.8, -0.8), (0.8, 0.8)), ((-0.8, 0.8), (0.8, -0.8))
        for start, end in ends:
            path = _unsteady([start, end], rng)
            _brush(pen, path[: len(path) // 2 + 1], width)
    else:
        path = _unsteady(_corners(shape, rng), rng)
        pen.draw.polygon(pen.at(path), fill=pen.rgb)
        _brush(pen, [*path, path[0]], max(2.0, extent * 0.05))


def _outlined(pen: Pen, shape: str, rng: Rng) -> None:
    """Draw only the outline, with a thick pen."""
    corners = pen.at(_corners(shape, rng))
    width = max(2, round(min(pen.half_width, pen.half_height) * float(rng.uniform(0.08, 0.2))))
    pen.draw.line([*corners, corners[0], corners[1]], fill=pen.rgb, width=width, joint="curve")


def make_drawing(rng: Rng, technique: str = "tool", pair: tuple[str, str] | None = None) -> Drawing:
    """Draw one shape on a white page.

    Args:
        rng: Source of randomness.
        technique: "tool" (shape tools), "freehand" or "outline" (not filled).
        pair: Colour and shape; None draws any colour but white. A bare outline is never a
            circle, because that would be a ring.
    """
    shapes = [shape for shape in SHAPES if technique != "outline" or shape != "circle"]
    colours = tuple(PALETTE)
    if pair is None:
        pair = (
            colours[int(rng.integers(len(colours)))],
            shapes[int(rng.integers(len(shapes)))],
        )
    width, height = PAGES[int(rng.integers(len(PAGES)))]
    page = Image.new("RGB", (width, height), WHITE)
    half = float(rng.uniform(0.11, 0.42)) * height
    half_width = min(half * float(rng.uniform(0.85, 1.18)), 0.47 * width)
    choices = PALETTE[pair[0]]
    pen = Pen(
        draw=ImageDraw.Draw(page),
        x=float(rng.uniform(half_width * 1.06, width - half_width * 1.06)),
        y=float(rng.uniform(half * 1.06, height - half * 1.06)),
        half_width=half_width,
        half_height=half,
        rgb=choices[int(rng.integers(len(choices)))],
    )
    draw_with = {"tool": _with_tool, "freehand": _freehand, "outline": _outlined}[technique]
    draw_with(pen, pair[1], rng)
    return Drawing(page, pair[0], pair[1], technique)
