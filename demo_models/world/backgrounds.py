"""Backgrounds in six styles, the same image at any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_models.world.vocabulary import Rgb

GRID = 64


def enlarge(field: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Resize one field (h, w) of floats to (size, size), bicubic."""
    image = Image.fromarray(field.astype(np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def _ramp(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Return distances (size, size) in image widths along a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = (np.arange(size) + 0.5) / size - 0.5
    return axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle)


def mix(style: str, rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Return how much of the second tone lies where, (size, size), about 0..1."""
    if style == "plain":
        return np.zeros((size, size))
    if style == "gradient":
        return np.clip(_ramp(rng, size) * rng.uniform(0.8, 1.4) + 0.5, 0, 1)
    if style == "noise":
        grain = rng.normal(0, 0.55, (GRID, GRID))
        return grain if size == GRID else enlarge(grain, size)
    if style == "stripes":
        return np.sin(_ramp(rng, size) * 2 * np.pi * rng.uniform(3, 11)) * 0.5 + 0.5
    if style == "checker":
        cells = int(rng.integers(3, 11))
        index = np.arange(size) * cells // size
        return ((index[:, None] + index[None, :]) % 2).astype(np.float64)
    grid = int(rng.integers(3, 8))
    return np.clip(enlarge(rng.uniform(-0.2, 1.2, (grid, grid)), size), 0, 1)


def draw_background(style: str, tones: tuple[Rgb, Rgb], seed: int, size: int) -> NDArray[np.uint8]:
    """Paint one background.

    Args:
        style: One of `STYLES`.
        tones: The two colours that the style mixes, 0..255.
        seed: Fixes grain, direction and spacing.
        size: Side of the image, px.

    Returns:
        Pixels (size, size, 3), uint8.
    """
    weight = mix(style, np.random.default_rng(seed), size)[..., None]
    first, second = (np.array(tone, dtype=np.float64) for tone in tones)
    return np.clip(first + weight * (second - first), 0, 255).astype(np.uint8)
