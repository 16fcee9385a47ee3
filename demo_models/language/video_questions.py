"""Questions about a moving scene with their true answers; what is not unique is not asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from demo_models.language.statement_wording import NUMBER_WORDS, article, pick, plural
from demo_models.language.unanswerable import DONT_KNOW, unanswerable_question
from demo_models.language.video_facts import Facts
from demo_models.language.video_question_wording import ask, verb_slots
from demo_models.world.motion import DIRECTIONS, EVENT_KINDS, OPPOSITES
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES

Rng = np.random.Generator
Slots = dict[str, str]

MOTION_KINDS = ("action", "direction", "which", "does", "happens", "order")
STATIC_KINDS = ("colour", "shape", "count", "yes_no", "background")
OTHER_KINDS = ("describe", "turns", "no_direction", "absent", "strange")
KINDS = (*STATIC_KINDS, *MOTION_KINDS, *OTHER_KINDS)


@dataclass(frozen=True)
class VideoQuery:
    """Meaning of a question: kind, family of wordings, slots, answer, and its object.

    `verb` is the kind of event that the question names; its form is chosen with the wording.
    """

    kind: str
    family: str
    answer: str
    slots: tuple[tuple[str, str], ...] = ()
    about: int | None = None
    verb: str | None = None


def phrase(query: VideoQuery, rng: Rng | None = None, held_out: bool = False) -> str:
    """Put a question into words, as `videochat_words.ask` does."""
    slots = dict(query.slots)
    if query.verb is not None:
        slots.update(verb_slots(query.verb, rng))
    return ask(query.family, slots, rng, held_out)


def references(
    rng: Rng, facts: Facts, index: int, hide: str = "", last: int | None = None
) -> str | None:
    """Return words for one object that fit no other at any time, or None.

    Args:
        rng: Chooses among them.
        facts: Of the video.
        index: Of the object.
        hide: "colour" or "shape", when that is asked.
        last: The object that was spoken of last, which may be "it".
    """
    target = facts.actors[index]
    others = [actor for number, actor in enumerate(facts.actors) if number != index]
    if last == index and rng.random() < 0.65:
        return pick(rng, ("it", "it", "it", "it", "that one", "this object"))
    found = []
    if hide != "shape" and all(other.shape != target.shape for other in others):
        found += [f"the {target.shape}"] * 3
    if hide != "colour" and all(other.has(target.colour, None) is False for other in others):
        noun = pick(rng, ("object", "thing", "one", "object", "shape"))
        found += [f"the {target.colour} {noun}"] * (3 if hide == "shape" else 1)
    if not hide and all(other.has(target.colour, target.shape) is False for other in others):
        found += [f"the {target.name}"] * 4
    if not others:
        found += ["it", "the object", "it" if hide == "shape" else "the shape"]
    return pick(rng, found) if found else None


def _target(rng: Rng, facts: Facts, last: int | None) -> int:
    if last is not None and rng.random() < 0.6:
        return last
    return int(rng.integers(len(facts.actors)))


def _ref(ref: str) -> tuple[tuple[str, str], ...]:
    return (("ref", ref),)


def _colour(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    index = _target(rng, facts, last)
    actor = facts.actors[index]
    ref = references(rng, facts, index, "colour", last)
    if ref is None or actor.new_colour is not None:
        return None
    return VideoQuery("colour", "colour", actor.colour, _ref(ref), index)


def _shape(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    index = _target(rng, facts, last)
    ref = references(rng, facts, index, "shape", last)
    shape = facts.actors[index].shape
    return VideoQuery("shape", "shape", shape, _ref(ref), index) if ref else None


def _words_for(colour: str | None, shape: str | None, rng: Rng) -> tuple[tuple[str, str], ...]:
    noun = shape or pick(rng, ("object", "shape", "thing"))
    words = f"{colour} {noun}" if colour else noun
    many = f"{colour} {plural(noun)}" if colour else plural(noun)
    return ("a", f"{article(words)} {words}"), ("many", many), ("one", words)


def _item(rng: Rng, facts: Facts, last: int | None, present: bool) -> tuple[str | None, str | None]:
    """Return a colour, a shape or both, of an object or with one of them changed."""
    actor = facts.actors[_target(rng, facts, last)]
    draw = rng.random()
    colour = None if draw < 0.35 else actor.colour
    shape = None if draw > 0.8 else actor.shape
    if present:
        return colour, shape
    if shape is not None and (colour is None or rng.random() < 0.5):
        shape = pick(rng, SHAPES)
    else:
        colour = pick(rng, COLOURS)
    return colour, shape


def _count(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    if not facts.constant:
        return None
    if rng.random() < 0.6:
        return VideoQuery("count", "count", NUMBER_WORDS[len(facts.actors)])
    colour, shape = _item(rng, facts, last, rng.random() < 0.75)
    held = [actor.has(colour, shape) for actor in facts.actors]
    if None in held or (colour, shape) in HELD_OUT_PAIRS:
        return None
    return VideoQuery(
        "count", "count of", NUMBER_WORDS[held.count(True)], _words_for(colour, shape, rng)
    )


def _yes_no(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    answer = rng.random() < 0.5
    if rng.random() < 0.1:
        others = [name for name in BACKGROUNDS if name != facts.background]
        value = facts.background if answer else pick(rng, others)
        return VideoQuery("yes_no", "is background", "yes" if answer else "no", (("value", value),))
    colour, shape = _item(rng, facts, last, answer)
    held = [actor.has(colour, shape) for actor in facts.actors]
    truth = True if True in held else None if None in held else False
    if truth is not answer or (colour, shape) in HELD_OUT_PAIRS:
        return None
    return VideoQuery(
        "yes_no", "presence", "yes" if answer else "no", _words_for(colour, shape, rng)
    )


def _background(rng: Rng, facts: Facts, last: int | None) -> VideoQuery:
    ref = references(rng, facts, _target(rng, facts, last), last=last) or "the objects"
    return VideoQuery("background", "background", facts.background, _ref(ref))


def _describe(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    return VideoQuery("describe", "describe", facts.description()) if facts.sure else None


def _action(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    index = _target(rng, facts, last)
    ref = references(rng, facts, index, last=last)
    if ref is None or not facts.actors[index].sure:
        return None
    return VideoQuery("action", "action", facts.action(index), _ref(ref), index)


def _direction(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    index = _target(rng, facts, last)
    way = facts.actors[index].direction
    ref = references(rng, facts, index, last=last)
    if ref is None or way is None or not facts.actors[index].sure:
        return None
    return VideoQuery("direction", "direction", way, _ref(ref), index)


def _no_direction(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    index = _target(rng, facts, last)
    actor = facts.actors[index]
    ref = references(rng, facts, index, last=last)
    if ref is None or not actor.sure or {*actor.kinds} & {*DIRECTIONS, "bounce", "spin"}:
        return None
    return VideoQuery("no_direction", "direction", "it does not move", _ref(ref), index)


def _which(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    kinds = [kind for _, kind in facts.events]
    still = [index for index, actor in enumerate(facts.actors) if not actor.kinds]
    single = [(index, kind) for index, kind in facts.events if kinds.count(kind) == 1]
    if len(still) == 1:
        single.append((still[0], "still"))
    if not single or not facts.sure:
        return None
    index, kind = single[int(rng.integers(len(single)))]
    return VideoQuery("which", "which", f"the {facts.actors[index].name}", (), index, kind)


def _does(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    if not facts.sure:
        return None
    answer = rng.random() < 0.5
    yes_or_no = "yes" if answer else "no"
    done = [kind for _, kind in facts.events]
    if rng.random() < 0.25:
        kinds = done if answer else [kind for kind in EVENT_KINDS if kind not in done]
        if not kinds or ("bounce" in done and not answer):
            return None
        yes_or_no = "yes" if answer else "no"
        return VideoQuery(
            "does", "does any", yes_or_no, (("a", "an object"),), verb=pick(rng, kinds)
        )
    index = _target(rng, facts, last)
    ref = references(rng, facts, index, last=last)
    own = facts.actors[index].kinds
    near = [*(OPPOSITES[kind] for kind in own if kind in OPPOSITES), *done]
    kinds = list(own) if answer else near if near and rng.random() < 0.6 else list(EVENT_KINDS)
    if not answer:
        barred = {*own, *(("up", "down") if "bounce" in own else ())}
        kinds = [kind for kind in kinds if kind not in barred]
    if ref is None or not kinds:
        return None
    return VideoQuery("does", "does", yes_or_no, _ref(ref), index, pick(rng, kinds))


def _happens(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    return VideoQuery("happens", "happens", facts.happens()) if facts.sure else None


def _order(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    if len(facts.events) != 2 or not facts.sure:
        return None
    number = int(rng.integers(2))
    return VideoQuery(
        "order", ("first", "last")[number], facts.event_text(number), (), facts.events[number][0]
    )


def _turns(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    changed = [index for index, actor in enumerate(facts.actors) if actor.new_colour]
    if len(changed) != 1 or not facts.actors[changed[0]].sure:
        return None
    ref = references(rng, facts, changed[0], last=last)
    colour = facts.actors[changed[0]].new_colour or ""
    return VideoQuery("turns", "turns", colour, _ref(ref), changed[0]) if ref else None


def _absent(rng: Rng, facts: Facts, last: int | None) -> VideoQuery | None:
    """Ask about an object that is not there."""
    colour, shape = _item(rng, facts, None, False)
    there = any(actor.has(colour, shape) is not False for actor in facts.actors)
    if shape is None or there or (colour, shape) in HELD_OUT_PAIRS:
        return None
    name = f"{colour} {shape}" if colour else shape
    family = pick(rng, ("action", "direction") if colour else ("colour", "action", "direction"))
    return VideoQuery("absent", family, f"there is no {name}", _ref(f"the {name}"))


def _strange(rng: Rng, facts: Facts, last: int | None) -> VideoQuery:
    return VideoQuery("strange", "strange", DONT_KNOW, (("text", unanswerable_question(rng)),))


MAKERS: dict[str, Callable[[Rng, Facts, int | None], VideoQuery | None]] = {
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "yes_no": _yes_no,
    "background": _background,
    "describe": _describe,
    "action": _action,
    "direction": _direction,
    "no_direction": _no_direction,
    "which": _which,
    "does": _does,
    "happens": _happens,
    "order": _order,
    "turns": _turns,
    "absent": _absent,
    "strange": _strange,
}


def make_query(rng: Rng, facts: Facts, kind: str, last: int | None = None) -> VideoQuery | None:
    """Return a question of one of `KINDS`; None where it cannot be asked of this video.

    Args:
        rng: Source of randomness.
        facts: Of the video.
        kind: What to ask.
        last: The object that was spoken of last, None at the beginning.
    """
    for _ in range(4):
        query = MAKERS[kind](rng, facts, last)
        if query is not None:
            return query
    return None
