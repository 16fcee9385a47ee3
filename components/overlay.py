"""A map of relevance laid over a picture."""

import numpy as np
from PIL import Image

from pipelines.core.results import Relevance

#: Colours of no, half and full relevance, RGB; read well in both themes and by the colour-blind.
_STOPS = np.array([[38, 24, 96], [214, 66, 92], [255, 226, 88]], dtype=np.float32)


def heat_overlay(picture: Image.Image, relevance: Relevance) -> Image.Image:
    """Return the picture with its relevant parts lit; what the model does not see stays dim."""
    picture = picture.copy()
    picture.thumbnail((800, 800))
    width, height = picture.size
    left, top, right, bottom = relevance.box
    box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    grid = Image.fromarray(np.asarray(relevance.grid, dtype=np.float32))
    size = (max(box[2] - box[0], 1), max(box[3] - box[1], 1))
    heat = np.zeros((height, width), dtype=np.float32)
    smooth = np.asarray(grid.resize(size, Image.Resampling.BICUBIC)).clip(0.0, 1.0)
    heat[box[1] : box[1] + size[1], box[0] : box[0] + size[0]] = smooth[
        : height - box[1], : width - box[0]
    ]
    pixels = np.asarray(picture, dtype=np.float32)
    grey = pixels.mean(axis=-1, keepdims=True) * 0.55 + 40.0
    strength = heat[..., None]
    mixed = grey * (1.0 - 0.65 * strength) + _colours(heat) * 0.65 * strength
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def _colours(heat: np.ndarray) -> np.ndarray:
    position = heat[..., None] * 2.0
    low = _STOPS[0] + (_STOPS[1] - _STOPS[0]) * position.clip(0.0, 1.0)
    return np.asarray(low + (_STOPS[2] - _STOPS[1]) * (position - 1.0).clip(0.0, 1.0))
