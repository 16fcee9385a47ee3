"""Random true statements about a scene, and false ones that differ in an attribute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from demo_models.language.statement_wording import caption_items, pick, word
from demo_models.language.statements import (
    CORNERS,
    PLACES,
    RELATIONS,
    SIZES,
    Item,
    Statement,
    at_place,
    has_size,
    judge,
)
from demo_models.world.scenes import Scene, SceneObject
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES

STATEMENT_KINDS = {
    "object": 0.30,
    "caption": 0.20,
    "bare": 0.10,
    "count": 0.11,
    "place": 0.09,
    "relation": 0.10,
    "background": 0.05,
    "property": 0.05,
}
Rng = np.random.Generator


def _object_claim(rng: Rng, scene: Scene, target: SceneObject) -> Statement:
    size = pick(rng, SIZES) if rng.random() < 0.25 else None
    if size and has_size(target, size) is not True:
        size = None
    background = scene.background if rng.random() < 0.2 else None
    return Statement("", (Item(target.colour, target.shape, size=size),), background=background)


def _place_claim(rng: Rng, target: SceneObject) -> Statement:
    places = [p for p in (*PLACES, *CORNERS) if at_place(target, p)]
    colour = target.colour if rng.random() < 0.85 else None
    shape = target.shape if colour is None or rng.random() < 0.8 else None
    return Statement("", (Item(colour, shape, place=pick(rng, places) if places else None),))


def _count_claim(rng: Rng, scene: Scene, target: SceneObject) -> Statement:
    draw = rng.random()
    if draw < 0.4:
        return Statement("", total=len(scene.objects))
    colour = target.colour if draw < 0.85 else None
    shape = target.shape if draw < 0.65 or draw > 0.85 else None
    same = sum(
        colour in (None, item.colour) and shape in (None, item.shape) for item in scene.objects
    )
    return Statement("", (Item(colour, shape, count=same),))


def _relation_claim(rng: Rng, scene: Scene) -> Statement:
    first, second = (scene.objects[i] for i in rng.permutation(len(scene.objects))[:2])
    items = (Item(first.colour, first.shape), Item(second.colour, second.shape))
    return Statement("", items, relation=pick(rng, RELATIONS))


def _bare(rng: Rng, target: SceneObject) -> Statement:
    """Return a label as people type it: "red circle", "circle", "red"."""
    draw = rng.random()
    if draw < 0.4:
        return Statement(f"{target.colour} {target.shape}", (Item(target.colour, target.shape),))
    if draw < 0.75:
        return _short(rng, target.shape, Item(shape=target.shape))
    return _short(rng, target.colour, Item(colour=target.colour, bare_colour=True))


def _short(rng: Rng, label: str, item: Item) -> Statement:
    forms = ("{}", "{}", "a photo of a {}", "a photo of {}", "a {}", "a picture of a {}")
    return Statement(pick(rng, forms).format(label), (item,))


def _propose(rng: Rng, kind: str, scene: Scene) -> Statement:
    target = scene.objects[int(rng.integers(len(scene.objects)))]
    if kind == "object":
        return word(_object_claim(rng, scene, target), rng)
    if kind == "caption":
        background = scene.background if rng.random() < 0.5 else None
        return word(Statement("", caption_items(scene, rng), background=background), rng)
    if kind == "bare":
        return _bare(rng, target)
    if kind == "count":
        return word(_count_claim(rng, scene, target), rng)
    if kind == "place":
        return word(_place_claim(rng, target), rng)
    if kind == "relation" and len(scene.objects) > 1:
        return word(_relation_claim(rng, scene), rng)
    if kind == "background":
        return word(Statement("", background=scene.background), rng)
    item = Item(shape=target.shape) if rng.random() < 0.5 else Item(colour=target.colour)
    return word(Statement("", (item,)), rng)


def true_statement(rng: Rng, scene: Scene, kind: str | None = None) -> Statement:
    """Return a random true statement about a scene.

    Args:
        rng: Source of randomness.
        scene: What to speak of.
        kind: One of `STATEMENT_KINDS`, or None for the training mixture.
    """
    chosen = kind or pick_kind(rng)
    for _ in range(20):
        statement = _propose(rng, chosen, scene)
        if judge(statement, scene) is True:
            return statement
    return _propose(rng, "object", scene)


def pick_kind(rng: Rng) -> str:
    """Draw a kind of statement from the training mixture."""
    kinds = tuple(STATEMENT_KINDS)
    return kinds[int(rng.choice(len(kinds), p=list(STATEMENT_KINDS.values())))]


def _other_number(rng: Rng, number: int | None) -> int:
    return int(rng.choice([other for other in (1, 2, 3, 4) if other != number]))


def change_item(rng: Rng, item: Item) -> Item:
    """Return an item with one property changed; never to a pair that is held out."""
    fields = [name for name in ("colour", "shape", "size", "place") if getattr(item, name)]
    if item.count:
        fields.append("count")
    field = pick(rng, fields)
    if field == "count":
        return replace(item, count=_other_number(rng, item.count))
    values = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "place": PLACES}[field]
    while True:
        value = pick(rng, [v for v in values if v != getattr(item, field)])
        if field == "colour":
            changed = replace(item, colour=value)
        elif field == "shape":
            changed = replace(item, shape=value)
        elif field == "size":
            changed = replace(item, size=value)
        else:
            changed = replace(item, place=value)
        was_held_out = (item.colour, item.shape) in HELD_OUT_PAIRS
        if was_held_out or (changed.colour, changed.shape) not in HELD_OUT_PAIRS:
            return changed


def _change_claim(rng: Rng, claim: Statement) -> Statement:
    parts = ["items"] * (2 * len(claim.items))
    if claim.relation is not None:
        parts += ["relation", "swap"]
    if claim.background is not None:
        parts.append("background")
    if claim.total is not None:
        parts.append("total")
    part = pick(rng, parts)
    if part == "relation":
        return replace(claim, relation=pick(rng, [r for r in RELATIONS if r != claim.relation]))
    if part == "swap":
        return replace(claim, items=tuple(reversed(claim.items)))
    if part == "background":
        others = [name for name in BACKGROUNDS if name != claim.background]
        return replace(claim, background=pick(rng, others))
    if part == "total":
        return replace(claim, total=_other_number(rng, claim.total))
    index = int(rng.integers(len(claim.items)))
    items = list(claim.items)
    items[index] = change_item(rng, items[index])
    return replace(claim, items=tuple(items))


def false_statement(
    rng: Rng, scene: Scene, claim: Statement, num_changes: int = 1, canonical: bool = False
) -> Statement | None:
    """Return the claim with attributes changed so that it is surely false, or None.

    Args:
        rng: Source of randomness.
        scene: The scene of which the claim is true and the result is false.
        claim: A true statement.
        num_changes: How many attributes to change.
        canonical: Word it as `word` does without randomness.
    """
    for _ in range(12):
        changed = claim
        for _ in range(num_changes):
            changed = _change_claim(rng, changed)
        if judge(changed, scene) is False:
            return word(changed, None if canonical else rng)
    return None
