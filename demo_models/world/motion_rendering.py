"""Rendering of moving scenes to frames and to maps of the object that covers each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from demo_models.world.backgrounds import draw_background
from demo_models.world.motion import Motion, state_at
from demo_models.world.scenes import IMAGE_PX, draw_object, place_points
from demo_models.world.shapes import outline

Times = Sequence[float] | NDArray[np.float64]
NO_OWNER = 255


def render_frames(
    motion: Motion, times: Times, size: int = IMAGE_PX, width: int | None = None
) -> NDArray[np.uint8]:
    """Render a motion at some times, without augmentation.

    Args:
        motion: The moving scene.
        times: When, in clips.
        size: Height of the frames, px.
        width: Their width, px; None for squares. Other widths stretch the image.

    Returns:
        (T, size, width, 3) uint8 RGB.
    """
    page = motion.page
    base = Image.fromarray(draw_background(page.style, page.tones, page.texture_seed, size))
    factor = (3 if size < 200 else 2) if page.smooth else 1
    if factor > 1:
        base = base.resize((size * factor, size * factor), Image.Resampling.NEAREST)
    frames = []
    for time in times:
        image = base.copy()
        draw = ImageDraw.Draw(image)
        for mover in motion.movers:
            item, visible = state_at(mover, float(time))
            if visible:
                draw_object(draw, item, size * factor)
        if factor > 1:
            image = image.reduce(factor)
        if width is not None and width != size:
            image = image.resize((width, size), Image.Resampling.BILINEAR)
        frames.append(np.asarray(image))
    stack = np.stack(frames)
    return np.ascontiguousarray(stack[:, :, ::-1]) if motion.mirror else stack


def owner_maps(motion: Motion, times: Times, size: int = IMAGE_PX) -> NDArray[np.uint8]:
    """Return which object covers each pixel (a ring's hole counts as the ring).

    Returns:
        (T, size, size) uint8: the object's number, or `NO_OWNER`.
    """
    maps = np.empty((len(times), size, size), dtype=np.uint8)
    for row, time in enumerate(times):
        page = Image.new("L", (size, size), NO_OWNER)
        draw = ImageDraw.Draw(page)
        for index, mover in enumerate(motion.movers):
            item, visible = state_at(mover, float(time))
            if visible:
                points = place_points(outline(item.shape, item.trait), item, size)
                draw.polygon(points, fill=index)
        maps[row] = np.asarray(page)
    return maps[:, :, ::-1].copy() if motion.mirror else maps
