"""Localisation by demo-clip: the share of peaks of a map that lie on the named object.

The occlusion map needs nothing from inside the model, and so bounds what the relevance map of the
pipeline can be held to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_models.evaluation.held_out import localisation_cases
from demo_models.evaluation.request import Request, open_pipeline
from pipelines.models.catalogue import DEMO_CLIP
from pipelines.models.clip.pipeline import ClipPipeline

WINDOW_PX, STRIDE_PX = 16, 6

Match = Callable[[Sequence[Image.Image], str], list[float]]
"""(images, text) -> the cosine of each image with the text."""


def occlusion_map(match: Match, image: Image.Image, text: str) -> NDArray[np.float64]:
    """Return how much the cosine drops, on average, when a pixel is hidden.

    A window of the page's median colour slides over the image.

    Args:
        match: The model.
        image: An RGB image (64, 64).
        text: The text to match.

    Returns:
        Mean drop of the cosine (64, 64), float64.
    """
    pixels = np.asarray(image)
    page = np.median(pixels.reshape(-1, 3), axis=0).astype(np.uint8)
    height, width = pixels.shape[:2]
    corners = [
        (top, left)
        for top in range(0, height - WINDOW_PX + 1, STRIDE_PX)
        for left in range(0, width - WINDOW_PX + 1, STRIDE_PX)
    ]
    hidden = []
    for top, left in corners:
        copy = pixels.copy()
        copy[top : top + WINDOW_PX, left : left + WINDOW_PX] = page
        hidden.append(Image.fromarray(copy))
    whole, *rest = match([image, *hidden], text)
    drops, covers = np.zeros((height, width)), np.full((height, width), 1e-9)
    for (top, left), cosine in zip(corners, rest, strict=True):
        window = np.s_[top : top + WINDOW_PX, left : left + WINDOW_PX]
        drops[window] += whole - cosine
        covers[window] += 1
    return drops / covers


def measure_occlusion(match: Match, seed: int, num: int) -> dict[str, float | int]:
    """Return how often the peak of the map lies on the named object, in percent.

    "chance_percent" is the mean share of the image that the object covers.
    """
    hits, areas = [], []
    for case in localisation_cases(seed, num):
        peak = int(occlusion_map(match, case.image, f"a photo of a {case.label}").argmax())
        hits.append(bool(case.mask.flat[peak]))
        areas.append(float(case.mask.mean()))
    return {
        "percent": round(100 * float(np.mean(hits)), 2),
        "chance_percent": round(100 * float(np.mean(areas)), 2),
        "n": num,
    }


def measure_relevance(clip: ClipPipeline, seed: int, num: int) -> dict[str, float | int]:
    """Return how often the highest patch of the map touches the named object, in percent.

    Each scene holds two or three different objects. "chance_percent" is what a patch chosen at
    random would reach. A patch touches an object that covers a quarter of it or more.
    """
    hits, chances = [], []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scene.png"
        for case in localisation_cases(seed, num):
            case.image.save(path)
            grid = np.asarray(clip.relevance(path, case.label, "photo").grid)
            rows, columns = grid.shape
            height, width = case.mask.shape
            blocks = case.mask.reshape(rows, height // rows, columns, width // columns)
            touched = blocks.mean(axis=(1, 3)) >= 0.25
            hits.append(bool(touched.flat[int(grid.argmax())]))
            chances.append(float(touched.mean()))
    return {
        "percent": round(100 * float(np.mean(hits)), 1),
        "chance_percent": round(100 * float(np.mean(chances)), 1),
        "n": num,
    }


def evaluate(request: Request) -> dict[str, Any]:
    """Return the figures of the pipeline's relevance map."""
    with open_pipeline(ClipPipeline, DEMO_CLIP, request.checkpoint) as clip:
        return {"seed": request.seed, **measure_relevance(clip, request.seed, request.num)}
