"""Captions, and questions about a scene with their true answers.

A question is made of its meaning (`Query`: what is asked of which object, and the answer) and
of a wording (`question_words`), so that one question can be asked in many ways. What is
undecidable (a middling size, an object almost in the middle) is not asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from demo_models.language.question_wording import (
    UNKNOWN_WORD_SHARE,
    fill,
    punctuated,
    with_extra_words,
    with_unknown_word,
    wordings,
)
from demo_models.language.statement_sampling import change_item
from demo_models.language.statement_wording import (
    NUMBER_WORDS,
    PLACE_WORDS,
    RELATION_WORDS,
    article,
    background_words,
    caption_items,
    listing,
    pick,
    plural,
)
from demo_models.language.statements import RELATIONS, Item, Statement, at_place, has_size, judge
from demo_models.language.unanswerable import DONT_KNOW, unanswerable_question
from demo_models.world.scenes import Scene, SceneObject
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES

KIND_SHARES = {
    "describe": 0.05,
    "colour": 0.12,
    "shape": 0.14,
    "count": 0.11,
    "yes_no": 0.18,
    "size": 0.08,
    "background": 0.06,
    "where": 0.14,
    "relation": 0.05,
    "absent": 0.04,
    "strange": 0.10,
    "places": 0.0,
}
"""Kinds of questions and their shares in training; captions come besides."""

MIXES = {
    "even": KIND_SHARES,
    "late": {
        **KIND_SHARES,
        "describe": 0.03,
        "colour": 0.08,
        "shape": 0.09,
        "count": 0.15,
        "yes_no": 0.20,
        "where": 0.28,
    },
    "places": {**dict.fromkeys(KIND_SHARES, 0.02), "where": 0.8, "places": 0.0},
    "several": {
        "describe": 0.03,
        "colour": 0.08,
        "shape": 0.09,
        "count": 0.15,
        "yes_no": 0.22,
        "size": 0.12,
        "background": 0.04,
        "where": 0.26,
        "relation": 0.07,
        "absent": 0.05,
        "strange": 0.12,
        "places": 0.06,
    },
}
"""Shares of the training stages: first all, then more of what is hard among several objects."""

MIDDLE = PLACE_WORDS["middle"][0]
Rng = np.random.Generator


@dataclass(frozen=True)
class Query:
    """The meaning of one question: its kind, the family of its wordings, slots and answer.

    `about` are the indices of the objects of the scene that the question names, where each
    name fits one object.
    """

    kind: str
    family: str
    answer: str
    slots: tuple[tuple[str, str], ...] = ()
    about: tuple[int, ...] = ()


def phrase(query: Query, rng: Rng | None = None, words: str = "all") -> str:
    """Put a question into words.

    Args:
        query: What is asked.
        rng: Chooses among the wordings; None gives the canonical one.
        words: One of `WORDINGS`.
    """
    slots = dict(query.slots)
    if query.family == "strange":
        text = slots["text"]
        return (
            punctuated(with_extra_words(text, rng), rng)
            if rng is not None
            else f"{text[:1].upper()}{text[1:]}?"
        )
    if rng is None:
        text = fill(wordings(query.family, "first")[0], slots, None)
        return f"{text[:1].upper()}{text[1:]}?"
    text = fill(pick(rng, wordings(query.family, words)), slots, rng)
    if words == "all" and rng.random() < UNKNOWN_WORD_SHARE:
        text = with_unknown_word(text, rng)
    return punctuated(text if words == "held out" else with_extra_words(text, rng), rng)


def caption_text(scene: Scene) -> str:
    """Return the caption: every object, equal ones counted together, and the background.

    Kinds of objects are named in the order of the vocabulary, so that a scene has one caption.
    """
    items = sorted(
        caption_items(scene),
        key=lambda item: (COLOURS.index(item.colour or ""), SHAPES.index(item.shape or "")),
    )
    return f"{listing(items)} {background_words(scene.background)}"


def _noun(rng: Rng) -> str:
    return pick(rng, ("object", "thing", "one", "object"))


def references(rng: Rng, scene: Scene, target: SceneObject, hide: str = "") -> str | None:
    """Return words for one object that fit no other, or None where there are none.

    Args:
        rng: Chooses among them.
        scene: The scene.
        target: The object.
        hide: "colour" or "shape", when that is asked.
    """
    others = [item for item in scene.objects if item is not target]
    found = []
    if hide != "shape" and all(item.shape != target.shape for item in others):
        found += [f"the {target.shape}"] * 3
    if hide != "colour" and all(item.colour != target.colour for item in others):
        found += [f"the {target.colour} {_noun(rng)}"] * (3 if hide == "shape" else 1)
    pairs = {(item.colour, item.shape) for item in others}
    if not hide and (target.colour, target.shape) not in pairs:
        found += [f"the {target.colour} {target.shape}"] * 3
    if not others:
        found += ["it", "this", "the object", "it" if hide == "shape" else "the shape"]
    return pick(rng, found) if found else None


def _target(rng: Rng, scene: Scene) -> SceneObject:
    return scene.objects[int(rng.integers(len(scene.objects)))]


def _about(scene: Scene, *targets: SceneObject) -> tuple[int, ...]:
    return tuple(
        next(index for index, item in enumerate(scene.objects) if item is target)
        for target in targets
    )


def _ask(kind: str, answer: str, ref: str, scene: Scene, target: SceneObject) -> Query:
    """Return a question of the family named like its kind about one object."""
    return Query(kind, kind, answer, (("ref", ref),), _about(scene, target))


def _describe(rng: Rng, scene: Scene) -> Query:
    return Query("describe", "describe", caption_text(scene))


def _colour(rng: Rng, scene: Scene) -> Query | None:
    target = _target(rng, scene)
    if len({item.colour for item in scene.objects}) == 1 and rng.random() < 0.15:
        return Query("colour", "the colour", target.colour)
    ref = references(rng, scene, target, hide="colour")
    return _ask("colour", target.colour, ref, scene, target) if ref else None


def _shape(rng: Rng, scene: Scene) -> Query | None:
    target = _target(rng, scene)
    if len(scene.objects) == 1 and rng.random() < 0.3:
        return Query("shape", "the shape", target.shape)
    ref = references(rng, scene, target, hide="shape")
    return _ask("shape", target.shape, ref, scene, target) if ref else None


def _words_for(item: Item, rng: Rng) -> tuple[tuple[str, str], ...]:
    noun = item.shape or pick(rng, ("object", "shape", "thing"))
    words = f"{item.colour} {noun}" if item.colour else noun
    many = f"{item.colour} {plural(noun)}" if item.colour else plural(noun)
    return ("a", f"{article(words)} {words}"), ("many", many), ("one", words)


def _item_of(rng: Rng, target: SceneObject) -> Item:
    """Return the object's colour, shape or both."""
    draw = rng.random()
    colour = None if draw < 0.35 else target.colour
    return Item(colour, None if draw > 0.8 else target.shape)


def _other_item(rng: Rng, item: Item, scene: Scene) -> Item | None:
    """Return the item with one property changed so that no object of the scene has both."""
    for _ in range(8):
        changed = change_item(rng, item)
        if judge(Statement("", (changed,)), scene) is False:
            return changed
    return None


def _count(rng: Rng, scene: Scene) -> Query | None:
    if rng.random() < 0.5:
        return Query("count", "count", NUMBER_WORDS[len(scene.objects)])
    item: Item | None = _item_of(rng, _target(rng, scene))
    if item is not None and rng.random() < 0.25:
        item = _other_item(rng, item, scene)
    if item is None:
        return None
    number = sum(
        item.colour in (None, other.colour) and item.shape in (None, other.shape)
        for other in scene.objects
    )
    return Query("count", "count of", NUMBER_WORDS[number], _words_for(item, rng))


def _yes_no(rng: Rng, scene: Scene) -> Query | None:
    answer = "yes" if rng.random() < 0.5 else "no"
    target, draw = _target(rng, scene), rng.random()
    if draw < 0.1:
        others = [name for name in BACKGROUNDS if name != scene.background]
        value = scene.background if answer == "yes" else pick(rng, others)
        return Query("yes_no", "is background", answer, (("value", value),))
    if draw < 0.25:
        ref = references(rng, scene, target, hide="colour")
        shapes = {target.shape}
        others = [c for c in COLOURS if not {(c, s) for s in shapes} & set(HELD_OUT_PAIRS)]
        value = target.colour if answer == "yes" else pick(rng, others)
        if ref is None or (answer == "no" and value == target.colour):
            return None
        slots = (("ref", ref), ("value", value))
        return Query("yes_no", "is colour", answer, slots, _about(scene, target))
    item: Item | None = _item_of(rng, target)
    if item is not None and answer == "no":
        item = _other_item(rng, item, scene)
    if item is None:
        return None
    alone = len(scene.objects) == 1
    family = "is a" if alone and rng.random() < 0.35 else "presence"
    return Query("yes_no", family, answer, _words_for(item, rng))


def _size(rng: Rng, scene: Scene) -> Query | None:
    target = _target(rng, scene)
    sizes = [size for size in ("small", "large") if has_size(target, size)]
    ref = references(rng, scene, target)
    return _ask("size", sizes[0], ref, scene, target) if ref and sizes else None


def _background(rng: Rng, scene: Scene) -> Query:
    ref = references(rng, scene, _target(rng, scene)) or "the objects"
    return Query("background", "background", scene.background, (("ref", ref),))


def place_name(target: SceneObject) -> str | None:
    """Return where an object lies, one of nine places, or None where that is doubtful."""
    middle = at_place(replace(target, y=0.5), "middle"), at_place(replace(target, x=0.5), "middle")
    if None in middle:
        return None
    vertical = "" if middle[1] else "top" if target.y < 0.5 else "bottom"
    horizontal = "" if middle[0] else "left" if target.x < 0.5 else "right"
    if vertical and horizontal:
        return f"in the {vertical} {horizontal} corner"
    return PLACE_WORDS[vertical or horizontal or "middle"][0]


PLACES_OF_OBJECTS = (
    *(PLACE_WORDS[place][0] for place in ("left", "right", "top", "bottom", "middle")),
    *(f"in the {v} {h} corner" for v in ("top", "bottom") for h in ("left", "right")),
)
"""Every answer of `place_name`."""


def _where(rng: Rng, scene: Scene) -> Query | None:
    target = _target(rng, scene)
    place, ref = place_name(target), references(rng, scene, target)
    return _ask("where", place, ref, scene, target) if place and ref else None


def _places(rng: Rng, scene: Scene) -> Query | None:
    """Ask for every object with its place; equal objects would have no order."""
    places = {(item.colour, item.shape): place_name(item) for item in scene.objects}
    if None in places.values() or len(places) < len(scene.objects):
        return None
    pairs = sorted(places, key=lambda pair: (COLOURS.index(pair[0]), SHAPES.index(pair[1])))
    named = [f"{article(pair[0])} {' '.join(pair)} {places[pair]}" for pair in pairs]
    return Query("places", "places", ", ".join(named))


def _relation(rng: Rng, scene: Scene) -> Query | None:
    if len(scene.objects) < 2:
        return None
    first, second = (scene.objects[i] for i in rng.permutation(len(scene.objects))[:2])
    names = references(rng, scene, first), references(rng, scene, second)
    relation = pick(rng, RELATIONS)
    items = (Item(first.colour, first.shape), Item(second.colour, second.shape))
    truth = judge(Statement("", items, relation=relation), scene)
    if None in (*names, truth):
        return None
    slots = ("first", names[0] or ""), ("second", names[1] or "")
    words = ("relation", pick(rng, RELATION_WORDS[relation]))
    return Query(
        "relation",
        "relation",
        "yes" if truth else "no",
        (*slots, words),
        _about(scene, first, second),
    )


def _absent(rng: Rng, scene: Scene) -> Query | None:
    """Ask about an object that is not there."""
    item = _other_item(rng, _item_of(rng, _target(rng, scene)), scene)
    if item is None or item.shape is None:
        return None
    name = f"{item.colour} {item.shape}" if item.colour else item.shape
    families = ("colour", "size", "where", "where") if item.colour is None else ("size", "where")
    slots = (("ref", f"the {name}"),)
    return Query("absent", pick(rng, families), f"there is no {name}", slots)


def _strange(rng: Rng, scene: Scene) -> Query:
    return Query("strange", "strange", DONT_KNOW, (("text", unanswerable_question(rng)),))


MAKERS: dict[str, Callable[[Rng, Scene], Query | None]] = {
    "describe": _describe,
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "yes_no": _yes_no,
    "size": _size,
    "background": _background,
    "where": _where,
    "relation": _relation,
    "absent": _absent,
    "strange": _strange,
    "places": _places,
}
_KINDS = tuple(KIND_SHARES)
_SHARES = {
    mix: np.array([shares[kind] for kind in _KINDS]) / sum(shares.values())
    for mix, shares in MIXES.items()
}


def make_query(rng: Rng, scene: Scene, kind: str | None = None, mix: str = "even") -> Query | None:
    """Return a question about a scene; None where this kind cannot be asked of it.

    Args:
        rng: Source of randomness.
        scene: What is asked about.
        kind: One of `KIND_SHARES`; None draws kinds until one can be asked.
        mix: One of `MIXES`, to draw kinds by.
    """
    if kind is not None:
        for _ in range(4):
            query = MAKERS[kind](rng, scene)
            if query is not None:
                return query
        return None
    while True:
        query = MAKERS[_KINDS[int(rng.choice(len(_KINDS), p=_SHARES[mix]))]](rng, scene)
        often = query is not None and query.answer == MIDDLE  # large objects are always there
        if query is not None and not (mix != "even" and often and rng.random() < 0.6):
            return query
