"""Augmentations of images: blur, JPEG, noise, rescaling."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    noise = rng.normal(0, rng.uniform(1, 8), pixels.shape)
    noisy = np.clip(pixels * rng.uniform(0.9, 1.08) + noise, 0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


def _rescale(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    factor = rng.uniform(0.6, 0.95)
    small = image.resize((int(width * factor), int(height * factor)), Image.Resampling.BILINEAR)
    return small.resize((width, height), Image.Resampling.BICUBIC)


def augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image, in about one of three cases blurred, compressed, grainy or rescaled."""
    if rng.random() < 0.08:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.9))))
    if rng.random() < 0.08:
        image = _rescale(image, rng)
    if rng.random() < 0.12:
        image = _grain(image, rng)
    if rng.random() < 0.08:
        image = _jpeg(image, int(rng.integers(35, 91)))
    return image
