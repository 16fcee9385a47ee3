"""Evaluation sets that no training run has seen, each fixed by a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo_models.language.statement_sampling import false_statement, true_statement
from demo_models.language.statement_wording import caption, word
from demo_models.language.statements import Statement, is_true, judge
from demo_models.language.unrelated_texts import sample_unrelated_text
from demo_models.world.augmentation import augment
from demo_models.world.drawings import Drawing, make_drawing
from demo_models.world.scenes import Scene, SceneOptions, object_masks, render, sample_scene
from demo_models.world.unrelated_images import HELD_OUT_KINDS, KINDS, draw_unrelated_image
from demo_models.world.vocabulary import HELD_OUT_PAIRS, SEEN_PAIRS

SEED_OFFSET = 1_000_003  # separates evaluation seeds from training seeds
NUM_CAPTIONS = 20
PAIR_KINDS = (
    "object",
    "object-hard",
    "caption",
    "caption-hard",
    "count",
    "place",
    "off-world",
    "non-scene",
)
Rng = np.random.Generator


@dataclass(frozen=True)
class LabelledPair:
    """An image, a text, and the truth of the text."""

    image: Image.Image
    text: str
    is_true: bool
    kind: str


@dataclass(frozen=True)
class LocalisationCase:
    """An image, the label of one of its objects, and where that object lies.

    `mask` is (H, W) bool, the filled outline of the object the label names.
    """

    image: Image.Image
    label: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class SceneCase:
    """One rendered scene and what it is made of."""

    image: Image.Image
    scene: Scene


@dataclass(frozen=True)
class CaptionCase:
    """One image and captions of which only the first is true."""

    image: Image.Image
    captions: tuple[str, ...]


def evaluation_rng(seed: int, salt: str) -> Rng:
    """Return the generator of one evaluation set; different salts never overlap."""
    return np.random.default_rng([SEED_OFFSET, seed, *salt.encode()])


def _picture(scene: Scene, rng: Rng) -> Image.Image:
    return augment(render(scene), rng)


def scene_cases(
    seed: int, num: int, num_objects: int | None = 1, seen_pairs: bool = True
) -> list[SceneCase]:
    """Return new scenes.

    Args:
        seed: Fixes the set.
        num: How many.
        num_objects: 1 to 4, or None for the training mixture.
        seen_pairs: True for colour-shape pairs of training, False for those never trained.
    """
    rng = evaluation_rng(seed, f"scenes {num_objects} {seen_pairs}")
    pairs = SEEN_PAIRS if seen_pairs else HELD_OUT_PAIRS
    options = SceneOptions(pairs=pairs)
    if num_objects is not None:
        shares = tuple(float(count == num_objects) for count in (1, 2, 3, 4))
        options = SceneOptions(pairs=pairs, count_shares=shares)
    scenes = (sample_scene(rng, options) for _ in range(num))
    return [SceneCase(_picture(scene, rng), scene) for scene in scenes]


def drawing_cases(seed: int, num: int, technique: str) -> list[Drawing]:
    """Return drawings as made in a paint program, all pairs but white ones."""
    rng = evaluation_rng(seed, f"paint {technique}")
    return [make_drawing(rng, technique) for _ in range(num)]


def unrelated_images(seed: int, num: int, held_out_kinds: bool = False) -> list[Image.Image]:
    """Return images without any shape, of kinds that training shows or never shows."""
    kinds = HELD_OUT_KINDS if held_out_kinds else KINDS
    rng = evaluation_rng(seed, f"non-scenes {held_out_kinds}")
    return [augment(draw_unrelated_image(rng, kinds[i % len(kinds)])[0], rng) for i in range(num)]


def unrelated_texts(seed: int, num: int) -> list[str]:
    """Return texts with words that training never used and no image of this world shows."""
    rng = evaluation_rng(seed, "off-world")
    return [sample_unrelated_text(rng, held_out=True) for _ in range(num)]


def caption_cases(
    seed: int, num: int, hard: bool = False, seen_pairs: bool = True
) -> list[CaptionCase]:
    """Return scenes of 1-4 objects with 20 captions each, the first of which is true.

    Args:
        seed: Fixes the set.
        num: How many.
        hard: False: the others are true captions of other scenes. True: the others are the
            same caption with one or two attributes changed.
        seen_pairs: As in `scene_cases`.
    """
    rng = evaluation_rng(seed, f"captions {hard} {seen_pairs}")
    cases = []
    for case in scene_cases(seed + 1, num, None, seen_pairs):
        right = caption(case.scene, with_background=bool(rng.random() < 0.5))
        texts = {right.text: None}
        for _ in range(400):
            if len(texts) == NUM_CAPTIONS:
                break
            wrong = _wrong_caption(rng, case.scene, right, hard)
            if wrong is not None:
                texts[wrong.text] = None
        cases.append(CaptionCase(case.image, tuple(texts)))
    return cases


def _wrong_caption(rng: Rng, scene: Scene, right: Statement, hard: bool) -> Statement | None:
    if hard:
        return false_statement(rng, scene, right, int(rng.integers(1, 3)), canonical=True)
    other = caption(sample_scene(rng), with_background=right.background is not None)
    return other if judge(other, scene) is False else None


def _positive_or_negative(rng: Rng, kind: str, wanted: bool) -> LabelledPair | None:
    """Return one pair of a kind that has both true and false members."""
    scene = sample_scene(rng)
    subject = kind.removesuffix("-hard")
    claim = true_statement(rng, scene, subject)
    if not is_true(claim, scene):
        return None
    if subject in ("object", "caption") and rng.random() < 0.7:
        claim = word(claim)
    if wanted:
        return LabelledPair(_picture(scene, rng), claim.text, True, kind)
    if kind in ("object", "caption"):
        other = sample_scene(rng)
        changed: Statement | None = true_statement(rng, other, subject)
        if changed is not None and judge(changed, scene) is not False:
            return None
    else:
        changed = false_statement(rng, scene, claim, canonical=bool(rng.random() < 0.7))
    if changed is None:
        return None
    return LabelledPair(_picture(scene, rng), changed.text, False, kind)


def _always_false(rng: Rng, kind: str) -> LabelledPair:
    scene = sample_scene(rng)
    if kind == "off-world":
        return LabelledPair(
            _picture(scene, rng), sample_unrelated_text(rng, held_out=True), False, kind
        )
    kinds = (*KINDS, *HELD_OUT_KINDS)
    image, _ = draw_unrelated_image(rng, kinds[int(rng.integers(len(kinds)))])
    subject = "object" if rng.random() < 0.6 else "caption"
    return LabelledPair(augment(image, rng), true_statement(rng, scene, subject).text, False, kind)


def iter_labelled_pairs(seed: int) -> Iterator[LabelledPair]:
    """Yield pairs without end, half of them true, the kinds in turn.

    The kinds "off-world" and "non-scene" are always false; to keep the balance, the true
    pair that follows each is of one of the other kinds.
    """
    rng = evaluation_rng(seed, "pairs")
    both = [kind for kind in PAIR_KINDS if kind not in ("off-world", "non-scene")]
    turn = 0
    while True:
        kind = PAIR_KINDS[turn % len(PAIR_KINDS)]
        partner = kind if kind in both else both[turn // len(PAIR_KINDS) % len(both)]
        yield _always_false(rng, kind) if kind not in both else _insist(rng, kind, False)
        yield _insist(rng, partner, True)
        turn += 1


def _insist(rng: Rng, kind: str, wanted: bool) -> LabelledPair:
    while True:
        pair = _positive_or_negative(rng, kind, wanted)
        if pair is not None:
            return pair


def labelled_pairs(seed: int, num: int) -> list[LabelledPair]:
    """Return `num` pairs of image and text, half of them true, of all `PAIR_KINDS`.

    Kinds: "object" and "caption" (false ones describe another scene), "object-hard" and
    "caption-hard" (one attribute changed), "count", "place" (one attribute changed),
    "off-world" (a text about something else) and "non-scene" (an image without shapes).

    Args:
        seed: Fixes the set; use different seeds for calibration and for testing.
        num: How many pairs.
    """
    pairs = iter_labelled_pairs(seed)
    return [next(pairs) for _ in range(num)]


def localisation_cases(seed: int, num: int, size: int = 64) -> list[LocalisationCase]:
    """Return scenes of two or three different objects and one object to point at.

    Args:
        seed: Fixes the set.
        num: How many.
        size: Side of the images and masks in px.
    """
    rng = evaluation_rng(seed, "pointing")
    options = SceneOptions(count_shares=(0.0, 0.6, 0.4, 0.0), distinct=True, hollow_share=0.0)
    cases = []
    for _ in range(num):
        scene = sample_scene(rng, options)
        target = int(rng.integers(len(scene.objects)))
        item = scene.objects[target]
        mask = object_masks(scene, size)[target]
        cases.append(LocalisationCase(render(scene, size), f"{item.colour} {item.shape}", mask))
    return cases
