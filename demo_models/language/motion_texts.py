"""Wordings of claims about moving scenes, random true claims and nearly true ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from demo_models.language.motion_statements import Act, SeenEvent, VideoClaim, View, judge_claim
from demo_models.language.statement_wording import (
    BACKGROUND_FORMS,
    NUMBER_WORDS,
    background_words,
    item_words,
    pick,
)
from demo_models.language.statements import Item
from demo_models.language.wordings import Phrases, PhraseTable, read
from demo_models.world.motion import DIRECTIONS, EVENT_KINDS, OPPOSITES
from demo_models.world.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT_PAIRS, SHAPES

Rng = np.random.Generator
Forms = tuple[tuple[str, str], ...]
_WORDINGS = read("motion")
VERBS: dict[str, Forms] = _WORDINGS["verbs"]
"""(finite, participle) forms of each kind; the first is the canonical one."""

TURN_FORMS: Forms = _WORDINGS["turns"]
SPEED_WORDS: PhraseTable = _WORDINGS["speeds"]
NOTHING: Phrases = _WORDINGS["nothing"]
CLAIM_KINDS = {
    "action": 0.50,
    "order": 0.18,
    "object": 0.12,
    "listing": 0.05,
    "still": 0.06,
    "count": 0.04,
    "background": 0.05,
}


def subject_words(act: Act, rng: Rng | None = None) -> str:
    """Return the words for the object of an act."""
    if act.colour is None and act.shape is None and rng is not None and rng.random() < 0.5:
        return "something"
    return item_words(Item(colour=act.colour, shape=act.shape), rng)


def verb_words(act: Act, rng: Rng | None = None) -> tuple[str, str]:
    """Return the (finite, participle) words for what the object of an act does."""
    forms = VERBS[act.kind or "still"]
    if act.after is not None:
        forms = tuple((a.format(act.after), b.format(act.after)) for a, b in TURN_FORMS)
    finite, participle = forms[int(rng.integers(len(forms)))] if rng else forms[0]
    if act.speed is None:
        return finite, participle
    words = SPEED_WORDS[act.speed]
    adverb = pick(rng, words) if rng else words[0]
    if rng and adverb != "fast" and rng.random() < 0.3:
        return f"{adverb} {finite}", f"{adverb} {participle}"
    return f"{finite} {adverb}", f"{participle} {adverb}"


def _sentence(act: Act, rng: Rng | None) -> str:
    subject = subject_words(act, rng)
    if act.kind is None:
        return subject
    finite, participle = verb_words(act, rng)
    draw = rng.random() if rng else 0.0
    if draw > 0.88:
        return f"a video of {subject} {participle}"
    return f"{subject} {participle}" if draw > 0.68 else f"{subject} {finite}"


def _order(claim: VideoClaim, rng: Rng | None) -> str:
    first, second = claim.acts
    does, then = verb_words(first, rng)[0], verb_words(second, rng)[0]
    one = subject_words(first, rng)
    same = (first.colour, first.shape) == (second.colour, second.shape)
    draw = rng.random() if rng else 0.0
    if same:
        forms = ["{0} {1}, then {3}", "{0} {1} and then {3}", "{0} first {1}, then {3}"]
    else:
        forms = ["{0} {1}, then {2} {3}", "{0} {1} and then {2} {3}", "first {0} {1}, then {2} {3}"]
        if draw > 0.8:
            forms = ["{0} {1} before {2} {3}", "{2} {3} after {0} {1}"]
    form = pick(rng, forms) if rng else forms[0]
    return form.format(one, does, subject_words(second, rng), then)


def word_claim(claim: VideoClaim, rng: Rng | None = None) -> VideoClaim:
    """Return the claim with a text that says it; None gives the canonical wording."""
    if claim.nothing:
        text = pick(rng, NOTHING) if rng else NOTHING[0]
    elif claim.total is not None:
        noun = pick(rng, ("shape", "object", "thing")) if rng else "shape"
        text = f"{NUMBER_WORDS[claim.total]} {noun}{'s' if claim.total > 1 else ''}"
    elif claim.in_order:
        text = _order(claim, rng)
    elif len(claim.acts) > 1:
        text = " and ".join(subject_words(act, rng) for act in claim.acts)
    elif claim.acts:
        text = _sentence(claim.acts[0], rng)
    else:
        form = pick(rng, BACKGROUND_FORMS) if rng else BACKGROUND_FORMS[0]
        return replace(claim, text=form.format(claim.background))
    if claim.background is not None:
        text = f"{text} {background_words(claim.background, rng)}"
    if rng and rng.random() < 0.08:
        text += "."
    return replace(claim, text=text)


def event_claim(view: View, number: int, kind: str | None = None) -> VideoClaim:
    """Return the canonical claim of one event of a view, or of another kind of event instead."""
    event = view.events[number]
    shape = view.objects[event.owner].shape
    return word_claim(VideoClaim("", (Act(event.colour, shape, kind or event.kind),)))


def _act_of(event: SeenEvent, view: View, rng: Rng) -> Act:
    """Return an act that says what an event is, some of its properties left open."""
    act = Act(event.colour, view.objects[event.owner].shape, event.kind)
    if event.after is not None and rng.random() < 0.6:
        act = replace(act, after=event.after)
    elif event.speed is not None and rng.random() < 0.25:
        act = replace(act, speed=event.speed)
    if act.kind in DIRECTIONS and act.speed is None and rng.random() < 0.06:
        act = replace(act, kind="move")
    draw = rng.random()
    if draw < 0.10:
        return replace(act, colour=None)
    if draw < 0.18:
        return replace(act, shape=None)
    return replace(act, colour=None, shape=None) if draw < 0.26 else act


def _named(view: View) -> list[Act]:
    return [Act(c, one.shape) for one in view.objects for c, sure in one.colours.items() if sure]


def _propose(rng: Rng, kind: str, view: View) -> VideoClaim:
    events = [event for event in view.events if event.sure]
    background = view.background if rng.random() < 0.08 else None
    if kind == "order" and len(events) > 1:
        acts = [_act_of(event, view, rng) for event in events[:2]]
        return VideoClaim("", (acts[0], acts[1]), in_order=True)
    if kind in ("action", "order") and events:
        event = events[int(rng.integers(len(events)))]
        return VideoClaim("", (_act_of(event, view, rng),), background=background)
    if kind == "count":
        return VideoClaim("", total=max(view.counts))
    named = _named(view)
    if kind == "background" or not named:
        return VideoClaim("", background=view.background)
    act = named[int(rng.integers(len(named)))]
    if kind in ("still", "action", "order"):
        if not view.events and rng.random() < 0.3:
            return VideoClaim("", nothing=True)
        return VideoClaim("", (replace(act, kind="still"),))
    if kind == "listing" and len(named) > 1:
        order = rng.permutation(len(named))[:2]
        return VideoClaim("", tuple(named[int(i)] for i in order))
    draw = rng.random()
    act = replace(act, colour=None) if draw < 0.15 else act
    return VideoClaim("", (act,), background=background)


def true_claim(rng: Rng, view: View, kind: str | None = None) -> VideoClaim:
    """Return a random true claim about a view, of one of `CLAIM_KINDS` or the training mixture."""
    kinds = tuple(CLAIM_KINDS)
    chosen = kind or kinds[int(rng.choice(len(kinds), p=list(CLAIM_KINDS.values())))]
    for _ in range(12):
        claim = _propose(rng, chosen, view)
        if judge_claim(claim, view) is True:
            return word_claim(claim, rng)
    return word_claim(VideoClaim("", background=view.background), rng)


def _other(rng: Rng, values: tuple[str, ...], value: str | None) -> str:
    return pick(rng, [other for other in values if other != value])


def _changed_act(rng: Rng, act: Act) -> Act:
    fields = [name for name in ("colour", "shape", "speed", "after") if getattr(act, name)]
    fields += ["kind"] * 2 if act.kind else []
    name = pick(rng, fields or ["colour"])
    if name == "speed":
        return replace(act, speed="fast" if act.speed == "slow" else "slow")
    if name == "kind":
        kind = act.kind or ""
        if kind in OPPOSITES and rng.random() < 0.5:
            other = OPPOSITES[kind]
        else:
            other = _other(rng, EVENT_KINDS, kind)
        speed = act.speed if other in DIRECTIONS else None
        return replace(act, kind=other, speed=speed, after=None)
    if name == "shape":
        return replace(act, shape=_other(rng, SHAPES, act.shape))
    colour = _other(rng, COLOURS, getattr(act, name))
    return replace(act, after=colour) if name == "after" else replace(act, colour=colour)


def _changes(rng: Rng, claim: VideoClaim) -> Iterator[VideoClaim]:
    while True:
        if claim.total is not None:
            yield replace(claim, total=int(rng.choice([n for n in (1, 2, 3) if n != claim.total])))
        elif claim.nothing:
            yield VideoClaim("", (Act(kind=pick(rng, EVENT_KINDS)),))
        elif claim.background is not None and (not claim.acts or rng.random() < 0.3):
            yield replace(claim, background=_other(rng, BACKGROUNDS, claim.background))
        elif claim.in_order and rng.random() < 0.4:
            yield replace(claim, acts=claim.acts[::-1])
        else:
            index = int(rng.integers(len(claim.acts)))
            acts = list(claim.acts)
            acts[index] = _changed_act(rng, acts[index])
            yield replace(claim, acts=tuple(acts))


def _names_held_out(claim: VideoClaim) -> bool:
    return any((act.colour, act.shape) in HELD_OUT_PAIRS for act in claim.acts)


def false_claim(
    rng: Rng, view: View, claim: VideoClaim, num_changes: int = 1, canonical: bool = False
) -> VideoClaim | None:
    """Return the claim with attributes changed so that it is surely false, or None.

    Args:
        rng: Source of randomness.
        view: Of which the claim is true and the result is false.
        claim: A true claim.
        num_changes: How many attributes to change.
        canonical: Word it as `word_claim` does without randomness.
    """
    for _ in range(12):
        changed = claim
        for _ in range(num_changes):
            changed = next(_changes(rng, changed))
        if _names_held_out(changed) and not _names_held_out(claim):
            continue
        if judge_claim(changed, view) is False:
            return word_claim(changed, None if canonical else rng)
    return None
