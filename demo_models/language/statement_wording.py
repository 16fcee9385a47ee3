"""Wordings of statements about a scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from demo_models.language.statements import Item, Statement
from demo_models.language.wordings import Phrases, PhraseTable, read
from demo_models.world.scenes import Scene

_WORDINGS = read("statements")
NUMBER_WORDS, TEMPLATES = _WORDINGS["numbers"], _WORDINGS["templates"]
PLACE_WORDS: PhraseTable = _WORDINGS["places"]
SIZE_WORDS: PhraseTable = _WORDINGS["sizes"]
RELATION_WORDS: PhraseTable = _WORDINGS["relations"]
BACKGROUND_ENDS: Phrases = _WORDINGS["background_ends"]
BACKGROUND_FORMS: Phrases = _WORDINGS["background_forms"]
Rng = np.random.Generator


def pick(rng: Rng, values: Sequence[str]) -> str:
    """Return one of the values at random."""
    return values[int(rng.integers(len(values)))]


def article(word: str) -> str:
    """Return the indefinite article of a word."""
    return "an" if word[0] in "aeiou" else "a"


def plural(noun: str) -> str:
    """Return the plural of a noun of this world."""
    return noun + "es" if noun.endswith("s") else noun + "s"


def item_words(item: Item, rng: Rng | None = None) -> str:
    """Put one item into words: "a small red circle", "three stars", "two blue objects".

    Args:
        item: What to name.
        rng: Chooses among ways to say it; None gives the canonical one.
    """
    noun = item.shape or (pick(rng, ("object", "shape", "thing")) if rng else "object")
    size = ""
    if item.size:
        size = pick(rng, SIZE_WORDS[item.size]) if rng else item.size
    if item.count > 1:
        number = NUMBER_WORDS[item.count]
        if rng and rng.random() < 0.15:
            number = str(item.count)
        phrase = " ".join(filter(None, (number, size, item.colour, plural(noun))))
    else:
        words = " ".join(filter(None, (size, item.colour, noun)))
        start = "one" if item.count == 1 else article(words)
        if rng and item.count == 0:
            draw = rng.random()
            if item.colour and item.shape and not size and draw < 0.06:
                joint = pick(rng, ("that is", "which is", "in"))
                return f"{article(noun)} {noun} {joint} {item.colour}"
            start = "the" if draw < 0.2 else "" if draw < 0.28 else "a" if draw < 0.36 else start
        phrase = f"{start} {words}".strip()
    if not item.place:
        return phrase
    if " " in item.place:
        corner = item.place
        if rng and rng.random() < 0.4:
            corner = corner.replace("top", "upper").replace("bottom", "lower")
        return f"{phrase} in the {corner} corner"
    return f"{phrase} {pick(rng, PLACE_WORDS[item.place]) if rng else PLACE_WORDS[item.place][0]}"


def listing(items: Sequence[Item], rng: Rng | None = None) -> str:
    """Join items as "a red circle, two blue stars and a green ring"."""
    words = [item_words(item, rng) for item in items]
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def background_words(name: str, rng: Rng | None = None) -> str:
    """Return the end of a sentence that names the background."""
    shade = "gray" if rng and name == "grey" and rng.random() < 0.4 else name
    joint = pick(rng, BACKGROUND_ENDS) if rng else BACKGROUND_ENDS[0]
    return joint.format(shade)


def _background_alone(name: str, rng: Rng) -> str:
    shade = "gray" if name == "grey" and rng.random() < 0.4 else name
    return pick(rng, BACKGROUND_FORMS).format(shade)


def word(claim: Statement, rng: Rng | None = None) -> Statement:
    """Return the claim with a text that says it; None gives the canonical wording."""
    if not claim.items and claim.background is not None:
        if rng is None:
            return replace(claim, text=f"a {claim.background} background")
        return replace(claim, text=_background_alone(claim.background, rng))
    if not claim.items and claim.total is not None:
        noun = pick(rng, ("shape", "object", "thing")) if rng else "shape"
        text = f"{NUMBER_WORDS[claim.total]} {plural(noun) if claim.total > 1 else noun}"
    elif claim.relation is not None:
        joints = RELATION_WORDS[claim.relation]
        joint = pick(rng, joints) if rng else joints[0]
        first, second = (item_words(item, rng) for item in claim.items[:2])
        text = f"{first} {joint} {second}"
    else:
        text = listing(claim.items, rng)
    if claim.background is not None:
        text = f"{text} {background_words(claim.background, rng)}"
    if rng is None:
        return replace(claim, text=f"a photo of {text}")
    return replace(claim, text=_in_template(text, rng))


def _in_template(text: str, rng: Rng) -> str:
    template = pick(rng, TEMPLATES)
    return template.format(text) + ("." if rng.random() < 0.12 else "")


def caption_items(scene: Scene, rng: Rng | None = None) -> tuple[Item, ...]:
    """Return every object of a scene as items, equal ones counted together."""
    pairs = Counter((item.colour, item.shape) for item in scene.objects)
    items = [
        Item(colour=colour, shape=shape, count=number if number > 1 else 0)
        for (colour, shape), number in pairs.items()
    ]
    order = rng.permutation(len(items)) if rng else range(len(items))
    return tuple(items[index] for index in order)


def caption(scene: Scene, with_background: bool = False) -> Statement:
    """Return the canonical caption: every object, and the background if asked for."""
    background = scene.background if with_background else None
    return word(Statement("", items=caption_items(scene), background=background))
