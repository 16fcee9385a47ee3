"""The cached images of a training run, and the batches made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo_models.language.statement_sampling import (
    STATEMENT_KINDS,
    false_statement,
    true_statement,
)
from demo_models.language.statements import Statement, judge
from demo_models.language.unrelated_texts import sample_unrelated_text
from demo_models.training.checkpoints import cached
from demo_models.world.augmentation import augment
from demo_models.world.scenes import IMAGE_PX, Scene, object_masks, render, sample_scene
from demo_models.world.unrelated_images import KINDS, draw_unrelated_image
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, SHAPES

PATCH_PX = 8
GRID = IMAGE_PX // PATCH_PX
EDGE, EMPTY = 255, 254  # patch labels besides the index of an object
NO_BACKGROUND = len(BACKGROUNDS)


@dataclass(frozen=True)
class ImageCache:
    """Rendered images with their labels; row i of each belongs together.

    `pixels` (N, 64, 64, 3) uint8; `owners` (N, 64) uint8, the object that covers a patch, or
    `EMPTY`, or `EDGE` for a patch that is neither; `scenes` holds None for non-scenes;
    `backgrounds` names the background colour, None where there is none. The `num_scenes`
    scenes come first.
    """

    pixels: NDArray[np.uint8]
    owners: NDArray[np.uint8]
    scenes: list[Scene | None]
    backgrounds: list[str | None]
    num_scenes: int


@dataclass(frozen=True)
class BatchSizes:
    """Numbers of images and texts of each kind in a batch."""

    scenes: int = 112
    non_scenes: int = 16
    hard_texts: int = 32
    unrelated_texts: int = 32


@dataclass(frozen=True)
class Batch:
    """One training step's data.

    `pixels` (B, 64, 64, 3) uint8; `truth` (T, B) int8: 1 true, 0 false, -1 undecided. `labels`:
    "patch_shape", "patch_colour" (B, 64) int64 with -100 for "ignore" and the last class for
    "nothing here"; "background" (B,) int64; "boxes" (B, 64, 3) float32: x, y, radius of the
    object that owns a patch, or the patch's own centre and 0; "num_objects" (B,) int64.
    """

    pixels: NDArray[np.uint8]
    texts: list[str]
    truth: NDArray[np.int8]
    labels: dict[str, NDArray[Any]]


def patch_owners(scene: Scene) -> NDArray[np.uint8]:
    """Return which object covers each of the 64 patches, row by row, (64,) uint8."""
    owners = np.full(GRID * GRID, EMPTY, dtype=np.uint8)
    masks = object_masks(scene).reshape(-1, GRID, PATCH_PX, GRID, PATCH_PX)
    for index, cover in enumerate(masks.mean(axis=(2, 4)).reshape(-1, GRID * GRID)):
        owners[(cover > 0.03) & (owners == EMPTY)] = EDGE
        owners[cover > 0.35] = index
    return owners


def make_cache(seed: int, num_scenes: int, num_non_scenes: int) -> ImageCache:
    """Sample, render and augment the images of one training run."""
    rng = np.random.default_rng(seed)
    total = num_scenes + num_non_scenes
    pixels = np.empty((total, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)
    owners = np.full((total, GRID * GRID), EMPTY, dtype=np.uint8)
    scenes: list[Scene | None] = []
    backgrounds: list[str | None] = []
    for index in range(num_scenes):
        scene = sample_scene(rng)
        pixels[index] = np.asarray(augment(render(scene), rng))
        owners[index] = patch_owners(scene)
        scenes.append(scene)
        backgrounds.append(scene.background)
    for index in range(num_scenes, total):
        image, background = draw_unrelated_image(rng, KINDS[index % len(KINDS)])
        pixels[index] = np.asarray(augment(image, rng))
        scenes.append(None)
        backgrounds.append(background)
    return ImageCache(pixels, owners, scenes, backgrounds, num_scenes)


def load_or_make_cache(data: Path, seed: int, num_scenes: int, num_non_scenes: int) -> ImageCache:
    """Return the images of these numbers, drawn into the folder `data` at the first call."""
    folder = data / f"images-{seed}-{num_scenes}-{num_non_scenes}"

    def make(target: Path) -> tuple[Any, ...]:
        cache = make_cache(seed, num_scenes, num_non_scenes)
        np.save(target / "pixels.npy", cache.pixels)
        return cache.owners, cache.scenes, cache.backgrounds

    owners, scenes, backgrounds = cached(folder, make)
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    return ImageCache(pixels, owners, scenes, backgrounds, num_scenes)


def statement_corpus(seed: int, num: int) -> list[str]:
    """Return true statements about `num` random scenes, each kind equally often."""
    rng = np.random.default_rng(seed)
    kinds = tuple(STATEMENT_KINDS)
    scenes = (sample_scene(rng) for _ in range(num))
    return [true_statement(rng, s, kinds[i % len(kinds)]).text for i, s in enumerate(scenes)]


def truth_of(statement: Statement, scene: Scene | None, background: str | None) -> int:
    """Return 1, 0 or -1 (undecided) for a statement about a scene or a non-scene."""
    if scene is not None:
        answer = judge(statement, scene)
        return -1 if answer is None else int(answer)
    only_background = statement.background is not None and not statement.items
    if only_background and statement.possible:
        return -1 if background is None else int(statement.background == background)
    return 0


def _batch_statements(
    rng: np.random.Generator, scenes: list[Scene], sizes: BatchSizes
) -> list[Statement]:
    true_ones = [true_statement(rng, scene) for scene in scenes]
    hard = []
    for index in rng.permutation(len(scenes))[: sizes.hard_texts]:
        changed = false_statement(rng, scenes[index], true_ones[index])
        if changed is not None:
            hard.append(changed)
    strange = [
        Statement(sample_unrelated_text(rng), possible=False) for _ in range(sizes.unrelated_texts)
    ]
    return [*true_ones, *hard, *strange]


def dense_labels(
    scene: Scene | None, owners: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return shape (64,), colour (64,) and box (64, 3) labels of one image's patches."""
    objects = scene.objects if scene is not None else ()
    shape = np.full(GRID * GRID, len(SHAPES), dtype=np.int64)
    colour = np.full(GRID * GRID, len(COLOURS), dtype=np.int64)
    centres = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    boxes = np.zeros((GRID * GRID, 3), dtype=np.float32)
    boxes[:, 0], boxes[:, 1] = np.tile(centres, GRID), np.repeat(centres, GRID)
    for index, item in enumerate(objects):
        mine = owners == index
        shape[mine], colour[mine] = SHAPES.index(item.shape), COLOURS.index(item.colour)
        boxes[mine] = (item.x, item.y, item.radius)
    shape[owners == EDGE] = colour[owners == EDGE] = -100
    return shape, colour, boxes


def stacked_labels(
    scenes: Sequence[Scene | None], owners: NDArray[np.uint8], backgrounds: Sequence[str | None]
) -> dict[str, NDArray[Any]]:
    """Return the dense labels of B images by name, as `Batch` has them."""
    shapes, colours, boxes = zip(*map(dense_labels, scenes, owners), strict=True)
    return {
        "patch_shape": np.stack(shapes),
        "patch_colour": np.stack(colours),
        "background": np.array([BACKGROUNDS.index(n) if n else NO_BACKGROUND for n in backgrounds]),
        "boxes": np.stack(boxes),
        "num_objects": np.array([len(scene.objects) if scene else 0 for scene in scenes]),
    }


def make_batch(cache: ImageCache, rng: np.random.Generator, sizes: BatchSizes) -> Batch:
    """Draw images from the cache, write new texts for them and judge every pair."""
    rows = np.array(
        [
            *rng.integers(0, cache.num_scenes, sizes.scenes),
            *rng.integers(cache.num_scenes, len(cache.scenes), sizes.non_scenes),
        ]
    )
    scenes = [cache.scenes[row] for row in rows]
    names = [cache.backgrounds[row] for row in rows]
    statements = _batch_statements(rng, [scene for scene in scenes if scene is not None], sizes)
    truth = [
        [truth_of(statement, scene, name) for scene, name in zip(scenes, names, strict=True)]
        for statement in statements
    ]
    return Batch(
        pixels=cache.pixels[rows],
        texts=[statement.text for statement in statements],
        truth=np.array(truth, dtype=np.int8),
        labels=stacked_labels(scenes, cache.owners[rows], names),
    )
