"""Images of scenes, drawings and unrelated images."""

import itertools

import numpy as np
import pytest

from demo_models.world.drawings import PALETTE, TECHNIQUES, make_drawing
from demo_models.world.scenes import (
    MIN_CONTRAST,
    MIN_GAP,
    SceneOptions,
    contrast,
    object_boxes,
    object_masks,
    render,
    sample_scene,
)
from demo_models.world.shapes import hole, outline
from demo_models.world.unrelated_images import HELD_OUT_KINDS, KINDS, draw_unrelated_image
from demo_models.world.vocabulary import ALL_PAIRS, HELD_OUT_PAIRS, SEEN_PAIRS, SHAPES


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(5)
    return [sample_scene(rng) for _ in range(300)]


def test_same_seed_same_picture():
    first, second = (sample_scene(np.random.default_rng(3)) for _ in range(2))
    other = sample_scene(np.random.default_rng(4))
    assert first == second
    assert render(first).tobytes() == render(second).tobytes()
    assert render(first).tobytes() != render(other).tobytes()


def test_objects_do_not_overlap_and_lie_inside(scenes):
    for scene in scenes:
        for item in scene.objects:
            assert min(item.x, item.y, 1 - item.x, 1 - item.y) >= item.radius * 0.9
        for a, b in itertools.combinations(scene.objects, 2):
            assert np.hypot(a.x - b.x, a.y - b.y) > MIN_GAP * (a.reach + b.reach)
        masks = object_masks(scene)
        assert masks.sum(axis=0).max() <= 1


def test_every_object_stands_out(scenes):
    for scene in scenes:
        for item in scene.objects:
            assert item.colour != scene.background
            assert contrast(item.rgb, scene.tones) > MIN_CONTRAST


def test_training_never_shows_a_held_out_pair(scenes):
    assert len(HELD_OUT_PAIRS) == 12
    assert len(ALL_PAIRS) == len(SEEN_PAIRS) + 12 == 80
    shown = {(item.colour, item.shape) for scene in scenes for item in scene.objects}
    assert not shown & set(HELD_OUT_PAIRS)


def test_number_of_objects_follows_the_shares(scenes):
    counts = np.bincount([len(scene.objects) for scene in scenes], minlength=5)
    assert counts[0] == 0
    assert counts[1] > counts[2] > counts[3] > counts[4] > 0


def test_mask_covers_the_pixels_that_an_object_changes():
    options = SceneOptions(count_shares=(1.0,), hollow_share=0.0)
    rng = np.random.default_rng(8)
    for _ in range(40):
        scene = sample_scene(rng, options)
        with_object = np.asarray(render(scene, 128), dtype=int)
        empty = np.asarray(render(type(scene)(**{**scene.__dict__, "objects": ()}), 128), dtype=int)
        changed = np.abs(with_object - empty).max(axis=2) > 60
        mask = object_masks(scene, 128)[0]
        item = scene.objects[0]
        filled = mask & changed
        assert filled.sum() > (0.3 if item.shape == "ring" else 0.8) * mask.sum()
        if not item.line:  # an outline stroke lies half outside the mask
            assert (changed & ~mask).sum() < 0.15 * mask.sum() + 20
        x0, y0, x1, y1 = object_boxes(scene, 128)[0]
        assert mask[y0:y1, x0:x1].sum() == mask.sum()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("trait", [0.0, 0.5, 1.0])
def test_outlines_fill_the_unit_square(shape, trait):
    points = outline(shape, trait)
    assert np.abs(points).max() <= 1.16
    assert np.abs(points).max() >= 0.85
    assert (hole(shape, trait) is not None) == (shape == "ring")


def test_a_scene_looks_alike_at_any_size(scenes):
    for scene in scenes[:20]:
        if scene.style == "noise":
            continue
        small = np.asarray(render(scene, 64), dtype=float)
        large = np.asarray(render(scene, 256).resize((64, 64)), dtype=float)
        assert np.abs(small - large).mean() < 12


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_paint_pages_are_white_with_one_pure_colour(technique):
    rng = np.random.default_rng(2)
    for _ in range(15):
        drawing = make_drawing(rng, technique)
        colours = {rgb for _, rgb in drawing.image.getcolors(1000)}
        assert len(colours) == 2  # hard edges: no shades between page and shape
        assert (255, 255, 255) in colours
        assert colours & set(PALETTE[drawing.colour])
        assert min(drawing.image.size) >= 200
        assert max(drawing.image.size) <= 1024


@pytest.mark.parametrize("kind", [*KINDS, *HELD_OUT_KINDS])
def test_non_scenes_render(kind):
    image, background = draw_unrelated_image(np.random.default_rng(1), kind)
    assert image.size == (64, 64)
    assert image.mode == "RGB"
    assert (background is not None) == (kind == "blank")
