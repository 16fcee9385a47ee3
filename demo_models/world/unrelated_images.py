"""Images that are not scenes of this world: blobs, noise, textures, collages, blank pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from demo_models.world.backgrounds import draw_background, enlarge
from demo_models.world.vocabulary import BACKGROUND_ANCHORS, BACKGROUNDS, STYLES

KINDS = ("blobs", "noise", "gradient", "texture", "stripes", "blank", "collage")
HELD_OUT_KINDS = ("scribbles", "landscape", "mosaic")
"""Kinds that training never shows."""

Rng = np.random.Generator


def _rgb(rng: Rng) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _muted(rng: Rng) -> NDArray[np.float64]:
    """Return a colour as photographs have it: mid tones with little saturation."""
    return np.clip(rng.normal(rng.uniform(60, 190), 30, 3), 0, 255)


def _octaves(rng: Rng, size: int, fall: float) -> NDArray[np.float64]:
    """Return cloud-like noise (size, size), about 0..1, smoother for a larger `fall`."""
    field = np.zeros((size, size))
    for octave in range(1, 6):
        cells = 2**octave
        field += enlarge(rng.normal(0, 1, (cells, cells)), size) * fall**-octave
    return (field - field.min()) / (np.ptp(field) + 1e-9)


def _blend(weights: NDArray[np.float64], rng: Rng, muted: bool) -> Image.Image:
    first, second, third = (
        (_muted(rng) if muted else np.array(_rgb(rng), dtype=float)) for _ in range(3)
    )
    low = np.clip(weights * 2, 0, 1)[..., None]
    high = np.clip(weights * 2 - 1, 0, 1)[..., None]
    pixels = first + low * (second - first) + high * (third - second)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _blobs(rng: Rng, size: int) -> Image.Image:
    cells = int(rng.integers(3, 8))
    small = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def _noise(rng: Rng, size: int) -> Image.Image:
    cells = int(rng.choice([16, 32, 64]))
    channels = rng.normal(128, rng.uniform(20, 80), (cells, cells, 3))
    if rng.random() < 0.3:
        channels[:] = channels[..., :1]
    image = Image.fromarray(np.clip(channels, 0, 255).astype(np.uint8))
    return image.resize((size, size), Image.Resampling.NEAREST)


def _gradient(rng: Rng, size: int) -> Image.Image:
    axis = np.linspace(0, 1, size)
    angle = rng.uniform(0, np.pi / 2)
    weights = (axis[None] * np.cos(angle) + axis[:, None] * np.sin(angle)) / 1.42
    return _blend(weights, rng, rng.random() < 0.4)


def _texture(rng: Rng, size: int) -> Image.Image:
    field = _octaves(rng, size, float(rng.uniform(1.0, 2.2)))
    if rng.random() < 0.4:
        field = np.sin(field * rng.uniform(6, 25)) * 0.5 + 0.5
    return _blend(field, rng, rng.random() < 0.7)


def _stripes(rng: Rng, size: int) -> Image.Image:
    bands = int(rng.integers(2, 14))
    colours = rng.integers(0, 256, (bands, 1, 3)).astype(np.uint8)
    image = Image.fromarray(colours).resize((size * 2, size * 2), Image.Resampling.NEAREST)
    turned = image.rotate(float(rng.uniform(0, 180)), Image.Resampling.BILINEAR)
    start = size // 2
    return turned.crop((start, start, start + size, start + size))


def _collage(rng: Rng, size: int) -> Image.Image:
    """Overlapping textured patches that cover the page, with grain and a soft lens."""
    page = _texture(rng, size)
    for _ in range(int(rng.integers(6, 22))):
        patch = _texture(rng, size) if rng.random() < 0.5 else _gradient(rng, size)
        centre = rng.uniform(-0.1, 1.1, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 10))))
        radii = rng.uniform(0.05, 0.45) * rng.uniform(0.4, 1.2, len(angles))
        corners = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        mask = Image.new("L", (size, size))
        ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in corners * size], fill=255)
        if rng.random() < 0.4:
            mask = mask.filter(ImageFilter.GaussianBlur(size * float(rng.uniform(0.005, 0.05))))
        page.paste(patch, (0, 0), mask)
    return page


def _scribbles(rng: Rng, size: int) -> Image.Image:
    page = Image.new("RGB", (size, size), (255, 255, 255))
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(2, 6))):
        steps = rng.normal(0, 0.07, (40, 2)).cumsum(axis=0) + rng.uniform(0.2, 0.8, 2)
        points = [(float(x), float(y)) for x, y in steps * size]
        draw.line(points, fill=_rgb(rng), width=max(1, size // 40), joint="curve")
    return page


def _landscape(rng: Rng, size: int) -> Image.Image:
    page = _blend(np.linspace(0, 0.5, size)[:, None] * np.ones(size), rng, True)
    draw = ImageDraw.Draw(page)
    for level in (0.45, 0.6, 0.78):
        heights = level + (_octaves(rng, 64, 1.8)[0] - 0.5) * 0.4
        ridge = [(x * size / 63, float(h) * size) for x, h in enumerate(heights)]
        red, green, blue = (int(v) for v in _muted(rng))
        draw.polygon([(0, size), *ridge, (size, size)], fill=(red, green, blue))
    return page


def _mosaic(rng: Rng, size: int) -> Image.Image:
    cells = int(rng.integers(4, 17))
    small = np.clip(_muted(rng) + rng.normal(0, 45, (cells, cells, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.NEAREST)


MAKERS = {
    "blobs": _blobs,
    "noise": _noise,
    "gradient": _gradient,
    "texture": _texture,
    "stripes": _stripes,
    "collage": _collage,
    "scribbles": _scribbles,
    "landscape": _landscape,
    "mosaic": _mosaic,
}


def _blank(rng: Rng, size: int) -> tuple[Image.Image, str]:
    name = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    anchors = BACKGROUND_ANCHORS[name]
    base = anchors[int(rng.integers(len(anchors)))]
    tones = (base, tuple(max(0, v - 18) if name != "black" else v + 18 for v in base))
    style = STYLES[int(rng.integers(len(STYLES)))]
    seed = int(rng.integers(2**31))
    second = (tones[1][0], tones[1][1], tones[1][2])
    return Image.fromarray(draw_background(style, (base, second), seed, size)), name


def draw_unrelated_image(rng: Rng, kind: str, size: int = 64) -> tuple[Image.Image, str | None]:
    """Paint one image that shows no shape of this world.

    Args:
        rng: Source of randomness.
        kind: One of `KINDS` or `HELD_OUT_KINDS`.
        size: Side in px.

    Returns:
        An RGB image (size, size), and the name of its background colour if it is a blank
        page of such a colour, else None.
    """
    if kind == "blank":
        return _blank(rng, size)
    return MAKERS[kind](rng, size), None
