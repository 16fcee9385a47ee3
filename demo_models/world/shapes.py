"""Outlines of the eight shapes as polygons in the unit square [-1, 1], y pointing down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Polygon corners (P, 2), x then y."""

NUM_POINTS = 48

ROTATION_LIMIT_DEG = {
    "circle": 180.0,
    "square": 15.0,
    "triangle": 18.0,
    "star": 18.0,
    "heart": 22.0,
    "ring": 180.0,
    "cross": 15.0,
    "moon": 40.0,
}
"""Largest rotation of a shape that keeps its name (a square must not become a diamond)."""


def _circle(radius: float = 1.0, num: int = NUM_POINTS) -> Points:
    angles = np.linspace(0, 2 * np.pi, num, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _subdivide(corners: Points) -> Points:
    """Spread about `NUM_POINTS` points along the edges so that a wobble can bend them."""
    following = np.roll(corners, -1, axis=0)
    per_edge = max(2, NUM_POINTS // len(corners))
    steps = np.arange(per_edge)[:, None, None] / per_edge
    return ((1 - steps) * corners + steps * following).transpose(1, 0, 2).reshape(-1, 2)


def _star(trait: float) -> Points:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.36 + 0.16 * trait)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _heart(trait: float) -> Points:
    t = np.linspace(0, 2 * np.pi, NUM_POINTS, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -(y + 2.5) / (16 - 2 * trait)], axis=1)


def _cross(trait: float) -> Points:
    arm = 0.11 + 0.25 * trait
    quarter = np.array([(arm, -1), (arm, -arm), (1, -arm)])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    parts = [quarter]
    for _ in range(3):
        parts.append(parts[-1] @ turn)
    return np.concatenate(parts) * 0.95


def _moon(trait: float) -> Points:
    bite, shift = 0.74 + 0.1 * trait, 0.5 - 0.06 * trait
    tip = np.arccos((1 + shift**2 - bite**2) / (2 * shift))
    inner_tip = np.arctan2(np.sin(tip), np.cos(tip) - shift)
    outer = np.linspace(tip, 2 * np.pi - tip, 30)
    inner = np.linspace(2 * np.pi - inner_tip, inner_tip, 20)[1:-1]
    arc = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    hollow = np.stack([shift + bite * np.cos(inner), bite * np.sin(inner)], axis=1)
    return np.concatenate([arc, hollow]) + (0.15, 0.0)


def _triangle(trait: float) -> Points:
    apex = 1.2 * (trait - 0.5) if trait > 0.8 or trait < 0.2 else 0.0
    return np.array([(apex, -0.95), (0.92, 0.72), (-0.92, 0.72)])


def outline(shape: str, trait: float = 0.5) -> Points:
    """Return the closed outline of a shape, without its hole.

    Args:
        shape: One of `SHAPES`.
        trait: 0..1, the shape's own variation: how thick a cross, how sharp a star.

    Returns:
        Corners (P, 2), float64, in about [-1, 1].
    """
    if shape in ("circle", "ring"):
        return _circle()
    if shape == "heart":
        return _heart(trait)
    if shape == "moon":
        return _moon(trait)
    corners = {
        "square": lambda: np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]) * 0.85,
        "triangle": lambda: _triangle(trait),
        "star": lambda: _star(trait),
        "cross": lambda: _cross(trait),
    }
    return _subdivide(corners[shape]())


def hole(shape: str, trait: float = 0.5) -> Points | None:
    """Return the outline of the shape's hole (P, 2), or None for all but the ring."""
    return _circle(0.45 + 0.3 * trait) if shape == "ring" else None


def wobble(points: Points, waves: tuple[float, ...]) -> Points:
    """Bend an outline like an unsteady hand: a low-frequency change of the radius.

    Args:
        points: Corners (P, 2).
        waves: Three amplitudes then three phases, for the harmonics 2, 3 and 5.
    """
    angles = np.arctan2(points[:, 1], points[:, 0])
    factor = np.ones(len(points))
    for harmonic, amplitude, phase in zip((2, 3, 5), waves[:3], waves[3:], strict=True):
        factor += amplitude * np.sin(harmonic * angles + phase)
    return points * factor[:, None]
