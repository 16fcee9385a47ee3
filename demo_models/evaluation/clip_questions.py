"""The questions that the demo CLIP is measured with, kind by kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from demo_models.evaluation.held_out import (
    caption_cases,
    drawing_cases,
    evaluation_rng,
    scene_cases,
    unrelated_texts,
)
from demo_models.language.statement_wording import caption, word
from demo_models.language.statements import PLACES, Item, Statement, at_place, judge
from demo_models.world.vocabulary import ALL_PAIRS, BACKGROUNDS, COLOURS, SHAPES

PHOTO = "a photo of a {}"
PAIR_LABELS = tuple(f"{colour} {shape}" for colour, shape in ALL_PAIRS)
GATES_PERCENT = {
    "pair_of_80": 95.0,
    "paint_tool_of_80": 93.0,
    "paint_freehand_of_80": 93.0,
    "caption_of_20": 97.0,
}
"""Kinds with a bar that a shipped checkpoint must pass."""

CAPTION_KINDS = (
    "caption_of_20",
    "unseen_caption_of_20",
    "hard_caption_of_20",
    "unseen_hard_caption_of_20",
)


@dataclass(frozen=True)
class Question:
    """An image, labels for a template, and the label that is true of the image."""

    kind: str
    image: Image.Image
    labels: tuple[str, ...]
    template: str
    right: str


def _single_object(seed: int, num: int) -> Iterator[Question]:
    for case in scene_cases(seed, num):
        item, image = case.scene.objects[0], case.image
        pair = f"{item.colour} {item.shape}"
        yield Question("pair_of_80", image, PAIR_LABELS, PHOTO, pair)
        yield Question("colour_of_10", image, COLOURS, "a photo of a {} shape", item.colour)
        yield Question("shape_of_8", image, SHAPES, PHOTO, item.shape)
        yield Question("bare_pair_of_80", image, PAIR_LABELS, "{}", pair)
        yield Question("bare_colour_of_10", image, COLOURS, "{}", item.colour)
        yield Question("bare_shape_of_8", image, SHAPES, "{}", item.shape)


def _unseen_object(seed: int, num: int) -> Iterator[Question]:
    for case in scene_cases(seed, num, seen_pairs=False):
        item = case.scene.objects[0]
        pair = f"{item.colour} {item.shape}"
        yield Question("unseen_pair_of_80", case.image, PAIR_LABELS, PHOTO, pair)
        yield Question("unseen_pair_shape_of_8", case.image, SHAPES, PHOTO, item.shape)


def _drawings(seed: int, num: int, technique: str) -> Iterator[Question]:
    for drawing in drawing_cases(seed, num, technique):
        pair = f"{drawing.colour} {drawing.shape}"
        yield Question(f"paint_{technique}_of_80", drawing.image, PAIR_LABELS, PHOTO, pair)


def _captions(seed: int, num: int, kind: str) -> Iterator[Question]:
    for case in caption_cases(seed, num, "hard" in kind, "unseen" not in kind):
        labels = case.captions
        yield Question(kind, case.image, tuple(sorted(labels)), "{}", labels[0])


def _facts(seed: int, num: int) -> Iterator[Question]:
    counts = ("one shape", "two shapes", "three shapes", "four shapes")
    for case in scene_cases(seed + 3, num, None):
        number = counts[len(case.scene.objects) - 1]
        yield Question("count_of_4", case.image, counts, "a photo of {}", number)
        yield Question(
            "background_of_7", case.image, BACKGROUNDS, "a {} background", case.scene.background
        )
    for case in scene_cases(seed + 4, num):
        item = case.scene.objects[0]
        places = [place for place in PLACES if at_place(item, place)]
        if len(places) == 1 and all(at_place(item, place) is not None for place in PLACES):
            claims = {
                place: word(Statement("", (Item(item.colour, item.shape, place=place),))).text
                for place in PLACES
            }
            right = claims[places[0]]
            yield Question("place_of_5", case.image, tuple(claims.values()), "{}", right)


def _relations(seed: int, num: int) -> Iterator[Question]:
    for case in scene_cases(seed + 5, num, 2):
        first, second = case.scene.objects
        if (first.colour, first.shape) == (second.colour, second.shape):
            continue
        one, other = Item(first.colour, first.shape), Item(second.colour, second.shape)
        for relation in ("left of", "above"):
            claim = word(Statement("", (one, other), relation=relation))
            swapped = word(Statement("", (other, one), relation=relation))
            answers = {judge(each, case.scene): each.text for each in (claim, swapped)}
            if True in answers and False in answers:
                labels = (claim.text, swapped.text)
                yield Question("relation_of_2", case.image, labels, "{}", answers[True])


def _off_world(seed: int, num: int) -> Iterator[Question]:
    """One true caption among nine texts about other things, in words never trained."""
    rng = evaluation_rng(seed, "off-world order")
    texts = unrelated_texts(seed, num * 9)
    for index, case in enumerate(scene_cases(seed + 6, num, None)):
        right = caption(case.scene).text
        labels = list(dict.fromkeys([right, *texts[9 * index : 9 * index + 9]]))
        order = rng.permutation(len(labels))
        shuffled = tuple(labels[i] for i in order)
        yield Question("true_among_off_world_of_10", case.image, shuffled, "{}", right)


def questions(seed: int, num: int) -> Iterator[Question]:
    """Yield about `num` questions of each kind ("place" and "relation": what is decidable)."""
    yield from _single_object(seed, num)
    yield from _unseen_object(seed, num)
    for technique in ("tool", "freehand", "outline"):
        yield from _drawings(seed, num, technique)
    for kind in CAPTION_KINDS:
        yield from _captions(seed, num, kind)
    yield from _facts(seed, num)
    yield from _relations(seed, num)
    yield from _off_world(seed, num)


def gated_questions(seed: int, num: int) -> Iterator[Question]:
    """Yield the questions of `questions` whose kind has a gate."""
    yield from (q for q in _single_object(seed, num) if q.kind in GATES_PERCENT)
    for technique in ("tool", "freehand"):
        yield from _drawings(seed, num, technique)
    yield from _captions(seed, num, "caption_of_20")
