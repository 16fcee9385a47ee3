"""Random scenes of one to four coloured shapes, rendered at any size.

A scene is plain data: the same scene gives the training image (64 px), a large example
(384 px), the mask of each object and the truth of every sentence about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from demo_models.world.backgrounds import draw_background
from demo_models.world.shapes import ROTATION_LIMIT_DEG, Points, hole, outline, wobble
from demo_models.world.vocabulary import (
    ANCHORS,
    BACKGROUND_ANCHORS,
    BACKGROUNDS,
    SEEN_PAIRS,
    STYLES,
    Rgb,
    colour_distance,
)

IMAGE_PX = 64
MIN_CONTRAST = 150.0
MIN_GAP = 1.12
COUNT_SHARES = (0.40, 0.32, 0.18, 0.10)
RADIUS_RANGES = ((0.08, 0.42), (0.08, 0.26), (0.075, 0.20), (0.075, 0.17))
BACKGROUND_SHARES = (0.34, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11)
JITTER = 14


@dataclass(frozen=True)
class SceneObject:
    """One shape of a scene; lengths are in image widths, the origin is the top left."""

    shape: str
    colour: str
    rgb: Rgb
    x: float
    y: float
    radius: float
    stretch: tuple[float, float]  # factors on x and y, their product is 1
    angle_deg: float
    trait: float
    waves: tuple[float, ...]  # six numbers for `outlines.wobble`
    line: float  # width of the outline stroke as a share of the radius, 0 = none
    line_rgb: Rgb
    hollow: bool  # only the outline is drawn, in the object's colour

    @property
    def reach(self) -> float:
        """Radius of a circle round the centre that holds the whole object."""
        return self.radius * max(self.stretch)


@dataclass(frozen=True)
class Scene:
    """Content of one image. Equal scenes render to equal images."""

    objects: tuple[SceneObject, ...]
    background: str
    style: str
    tones: tuple[Rgb, Rgb]
    texture_seed: int
    smooth: bool = True  # anti-aliased edges


@dataclass(frozen=True)
class SceneOptions:
    """Options of the scenes to sample."""

    pairs: tuple[tuple[str, str], ...] = SEEN_PAIRS
    count_shares: tuple[float, ...] = COUNT_SHARES  # of 1, 2, 3, 4 objects
    repeat_share: float = 0.30
    hollow_share: float = 0.07
    distinct: bool = False  # no two objects of the same colour and shape


def _jittered(rng: np.random.Generator, anchor: Rgb, jitter: int = JITTER) -> Rgb:
    moved = rng.integers(-jitter, jitter + 1, 3) + anchor
    red, green, blue = (int(value) for value in np.clip(moved, 0, 255))
    return red, green, blue


def _pick_tones(rng: np.random.Generator, name: str) -> tuple[Rgb, Rgb]:
    anchors = BACKGROUND_ANCHORS[name]
    base = anchors[int(rng.integers(len(anchors)))]
    first = base if name == "white" and rng.random() < 0.6 else _jittered(rng, base, 8)
    change = int(rng.integers(9, 34))
    sign = 1 if name == "black" or (name != "white" and rng.random() < 0.5) else -1
    red, green, blue = (max(0, min(255, v + sign * change)) for v in first)
    return first, (red, green, blue)


def contrast(rgb: Rgb, tones: tuple[Rgb, Rgb]) -> float:
    """Return the distance of a colour to the nearer of the two background tones."""
    return min(colour_distance(rgb, tone) for tone in tones)


def pick_rgb(rng: np.random.Generator, colour: str, scene: Scene) -> Rgb | None:
    """Return a visible variant of a colour, or None if this background hides it."""
    if colour == scene.background:
        return None
    for _ in range(4):
        rgb = _jittered(rng, ANCHORS[colour][int(rng.integers(len(ANCHORS[colour])))])
        if contrast(rgb, scene.tones) > MIN_CONTRAST:
            return rgb
    return None


def _pick_angle(rng: np.random.Generator, shape: str) -> float:
    angle = rng.uniform(-1, 1) * ROTATION_LIMIT_DEG[shape]
    if shape == "cross" and rng.random() < 0.3:
        angle += 45
    if (shape == "triangle" and rng.random() < 0.12) or (shape == "moon" and rng.random() < 0.5):
        angle += 180
    return float(angle)


def sample_object(
    rng: np.random.Generator, pair: tuple[str, str], rgb: Rgb, radius: float, squash: float
) -> SceneObject:
    """Return an object in the middle; `squash` is the stretch of all objects of the scene."""
    stretch = float(np.exp(squash + rng.uniform(-0.16, 0.16) * (rng.random() < 0.7))) ** 0.5
    shaky = rng.random() < 0.45
    amplitudes = rng.uniform(-0.045, 0.045, 3) if shaky else np.zeros(3)
    phases = rng.uniform(0, 2 * np.pi, 3)
    dark = (0, 0, 0) if rng.random() < 0.5 else tuple(int(0.55 * v) for v in rgb)
    return SceneObject(
        shape=pair[1],
        colour=pair[0],
        rgb=rgb,
        x=0.5,
        y=0.5,
        radius=radius,
        stretch=(stretch, 1 / stretch),
        angle_deg=_pick_angle(rng, pair[1]),
        trait=float(rng.random()),
        waves=(*map(float, amplitudes), *map(float, phases)),
        line=float(rng.uniform(0.05, 0.14)) if rng.random() < 0.17 else 0.0,
        line_rgb=(dark[0], dark[1], dark[2]),
        hollow=False,
    )


def _place(
    rng: np.random.Generator, item: SceneObject, placed: list[SceneObject]
) -> SceneObject | None:
    """Return the item at a free place, or None when 30 tries found none."""
    margin = min(item.reach * 1.03, 0.5)
    for _ in range(30):
        x, y = (float(v) for v in rng.uniform(margin, 1 - margin, 2))
        if all(
            np.hypot(x - other.x, y - other.y) > MIN_GAP * (item.reach + other.reach)
            for other in placed
        ):
            return replace(item, x=x, y=y)
    return None


def _pick_pairs(rng: np.random.Generator, num: int, options: SceneOptions) -> list[tuple[str, str]]:
    chosen = [options.pairs[int(rng.integers(len(options.pairs)))]]
    while len(chosen) < num:
        if not options.distinct and rng.random() < options.repeat_share:
            chosen.append(chosen[-1])
            continue
        pair = options.pairs[int(rng.integers(len(options.pairs)))]
        if not (options.distinct and pair in chosen):
            chosen.append(pair)
    return chosen


def sample_page(rng: np.random.Generator) -> Scene:
    """Return a scene without objects yet."""
    background = BACKGROUNDS[int(rng.choice(len(BACKGROUNDS), p=BACKGROUND_SHARES))]
    plain = background == "white" and rng.random() < 0.5
    return Scene(
        objects=(),
        background=background,
        style="plain" if plain else STYLES[int(rng.integers(len(STYLES)))],
        tones=_pick_tones(rng, background),
        texture_seed=int(rng.integers(2**31)),
        smooth=bool(rng.random() > 0.12),
    )


def sample_scene(rng: np.random.Generator, options: SceneOptions | None = None) -> Scene:
    """Draw one scene from the world's distribution.

    Objects never overlap and always stand out from the background; a colour of the same
    name as the background is not used on it.
    """
    options = options or SceneOptions()
    num = int(rng.choice(len(options.count_shares), p=options.count_shares)) + 1
    pairs = _pick_pairs(rng, num, options)
    low, high = RADIUS_RANGES[min(num, 4) - 1]
    squash = float(rng.uniform(-0.32, 0.32)) if rng.random() < 0.5 else 0.0
    while True:
        empty = sample_page(rng)
        placed: list[SceneObject] = []
        for pair in pairs:
            rgb = pick_rgb(rng, pair[0], empty)
            if rgb is None:
                break
            item = sample_object(rng, pair, rgb, float(rng.uniform(low, high)), squash)
            may_be_hollow = pair[1] not in ("circle", "ring") and item.radius > 0.15
            if may_be_hollow and rng.random() < options.hollow_share:
                width = float(rng.uniform(0.08, 0.26))
                item = replace(item, hollow=True, line=width, line_rgb=item.rgb)
            located = _place(rng, item, placed)
            if located is None:
                break
            placed.append(located)
        if len(placed) == num:
            return replace(empty, objects=tuple(placed))


def place_points(points: Points, item: SceneObject, size: int) -> list[tuple[float, float]]:
    """Turn, stretch and move unit points (P, 2) to pixels of a square page of `size` px."""
    bent = wobble(points, item.waves)
    angle = np.deg2rad(item.angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = bent @ np.array([[cos, sin], [-sin, cos]])
    scaled = turned * (np.array(item.stretch) * item.radius) + (item.x, item.y)
    return [(float(x), float(y)) for x, y in scaled * size]


def draw_object(draw: ImageDraw.ImageDraw, item: SceneObject, size: int) -> None:
    """Draw one object on a square page of `size` px, without anti-aliasing."""
    outer = place_points(outline(item.shape, item.trait), item, size)
    inner_points = hole(item.shape, item.trait)
    rings = [outer]
    if inner_points is not None:
        rings.append(place_points(inner_points, item, size))
    if not item.hollow:
        body = outer
        if len(rings) == 2:  # one polygon with a seam, so that the background shows inside
            body = [*outer, outer[0], rings[1][0], *reversed(rings[1])]
        draw.polygon(body, fill=item.rgb)
    if item.line:
        width = max(1, round(item.line * item.radius * size))
        for ring in rings:
            draw.line([*ring, ring[0], ring[1]], fill=item.line_rgb, width=width, joint="curve")


def render(scene: Scene, size: int = IMAGE_PX) -> Image.Image:
    """Render a scene, without augmentation.

    Returns:
        An RGB image of (size, size) px.
    """
    base = Image.fromarray(draw_background(scene.style, scene.tones, scene.texture_seed, size))
    factor = 3 if scene.smooth else 1
    if factor > 1:
        base = base.resize((size * factor, size * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(base)
    for item in scene.objects:
        draw_object(draw, item, size * factor)
    return base.reduce(factor) if factor > 1 else base


def object_masks(scene: Scene, size: int = IMAGE_PX) -> NDArray[np.bool_]:
    """Return the filled outline of each object (a ring's hole counts as the ring).

    Returns:
        Masks (N, size, size), bool, in the order of `scene.objects`.
    """
    masks = np.zeros((len(scene.objects), size, size), dtype=bool)
    for index, item in enumerate(scene.objects):
        page = Image.new("1", (size, size))
        ImageDraw.Draw(page).polygon(
            place_points(outline(item.shape, item.trait), item, size), fill=1
        )
        masks[index] = np.asarray(page)
    return masks


def object_boxes(scene: Scene, size: int = IMAGE_PX) -> list[tuple[int, int, int, int]]:
    """Return the box (x0, y0, x1, y1) of each object in px, x1 and y1 exclusive."""
    boxes = []
    for mask in object_masks(scene, size):
        rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        boxes.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    return boxes
