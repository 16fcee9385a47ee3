"""Heat map of the image regions that match a text."""

import numpy as np
from PIL import Image

from pipelines.core.results import Relevance

#: Longest side of the result, in pixels.
_MAX_SIDE_PX = 800

#: Share of the heat map's colour where the relevance is 1.
_OPACITY = 0.65

#: Colours of relevance 0, 0.5 and 1, RGB; legible in both themes and to colour-blind people.
_STOPS = np.array([[38, 24, 96], [214, 66, 92], [255, 226, 88]])

#: (256, 1, 3) uint8: colours of relevance 0..1, as `cv2.applyColorMap` takes them.
_PALETTE = np.stack(
    [np.interp(np.linspace(0, 2, 256), range(3), channel) for channel in _STOPS.T], axis=-1
)
_PALETTE = _PALETTE.round().astype(np.uint8)[:, None]


def heat_overlay(image: Image.Image, relevance: Relevance) -> Image.Image:
    """Return a copy of an image with its relevant regions coloured and the rest in grey."""
    image = image.copy()
    image.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    heat = _enlarged(relevance, image.width, image.height)
    pixels = np.asarray(image, dtype=np.float32)
    grey = pixels.mean(axis=-1, keepdims=True) * 0.55 + 40.0
    weight = _OPACITY * heat[..., None]
    mixed = grey * (1.0 - weight) + _colours(heat) * weight
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def _enlarged(relevance: Relevance, width: int, height: int) -> np.ndarray:
    """Return (height, width) float32 in 0..1; 0 outside the part that the model sees."""
    import cv2  # here: the page starts without it

    left, top, right, bottom = relevance.box
    x, y = round(left * width), round(top * height)
    size = max(round(right * width) - x, 1), max(round(bottom * height) - y, 1)
    grid = np.asarray(relevance.grid, dtype=np.float32)
    smooth = cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC).clip(0.0, 1.0)
    heat = np.zeros((height, width), dtype=np.float32)
    heat[y : y + size[1], x : x + size[0]] = smooth[: height - y, : width - x]
    return heat


def _colours(heat: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), _PALETTE))
