"""Ways to ask about what moves, and the words in which a video's events are told.

Slots beside those of `question_words`: {ref} "the red circle" or "it", {verb} "moves left", {do}
"move left", {doing} "moving left", {what} "what" or "which shape".
"""

from __future__ import annotations

import numpy as np

from demo_models.language import question_wording as question_words
from demo_models.language.question_wording import as_typed, dressed, fill
from demo_models.language.statement_wording import pick

VERBS = {
    "left": ("moves left", "move left", "moving left"),
    "right": ("moves right", "move right", "moving right"),
    "up": ("moves up", "move up", "moving up"),
    "down": ("moves down", "move down", "moving down"),
    "spin": ("spins", "spin", "spinning"),
    "grow": ("grows", "grow", "growing"),
    "shrink": ("shrinks", "shrink", "shrinking"),
    "bounce": ("bounces", "bounce", "bouncing"),
    "appear": ("appears", "appear", "appearing"),
    "disappear": ("disappears", "disappear", "disappearing"),
    "recolour": ("changes its colour", "change its colour", "changing its colour"),
    "still": ("stays still", "stay still", "staying still"),
}
"""Of each kind of event: "it ...", "does it ...", "is it ..."; the first are the canonical ones."""

OTHER_VERBS = {
    "left": (("moves to the left", "move to the left", "moving to the left"),
             ("goes left", "go left", "going left")),
    "right": (("moves to the right", "move to the right", "moving to the right"),
              ("goes right", "go right", "going right")),
    "up": (("moves upwards", "move upwards", "moving upwards"), ("goes up", "go up", "going up"),
           ("rises", "rise", "rising")),
    "down": (("moves downwards", "move downwards", "moving downwards"),
             ("goes down", "go down", "going down")),
    "spin": (("turns round", "turn round", "turning round"),
             ("rotates", "rotate", "rotating")),
    "grow": (("gets bigger", "get bigger", "getting bigger"),
             ("becomes larger", "become larger", "becoming larger")),
    "shrink": (("gets smaller", "get smaller", "getting smaller"),
               ("becomes smaller", "become smaller", "becoming smaller")),
    "bounce": (("jumps up and down", "jump up and down", "jumping up and down"),
               ("hops", "hop", "hopping")),
    "appear": (("comes in", "come in", "coming in"), ("shows up", "show up", "showing up")),
    "disappear": (("vanishes", "vanish", "vanishing"), ("goes away", "go away", "going away")),
    "recolour": (("changes colour", "change colour", "changing colour"),
                 ("turns into another colour", "turn into another colour",
                  "turning into another colour")),
    "still": (("does not move", "not move", "not moving"),
              ("stands still", "stand still", "standing still")),
}  # fmt: skip
"""The same, of questions only."""


def _entries(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split("|"))


TRAINED: dict[str, tuple[str, ...]] = {
    "action": _entries(
        """what does {ref} do | what happens to {ref} | what is {ref} doing |
        what is happening to {ref} | what did {ref} do | what happened to {ref} |
        how does {ref} move | tell me what {ref} does | describe the motion of {ref} |
        how does {ref} behave | what becomes of {ref} | and {ref}, what does it do |
        what does {ref} do in the {picture} | what happens with {ref} | what action does {ref} do |
        say what happens to {ref} | what can you say about the motion of {ref}"""
    ),
    "direction": _entries(
        """which way does {ref} move | which direction does {ref} move |
        in which direction does {ref} move | where does {ref} move to | where does {ref} go |
        what direction does {ref} move in | which way does {ref} go | where is {ref} moving |
        which way is {ref} moving | which way is {ref} going | in what direction is {ref} going |
        tell me the direction of {ref} | what is the direction of {ref} |
        what direction is {ref} moving in | to which side does {ref} go |
        which direction is {ref} moving in | where is {ref} going"""
    ),
    "which": _entries(
        """{what} {verb} | {what} {verb} | {what} {verb} in the {picture} | {what} is {doing} |
        {what} is {doing} | can you tell me {what} {verb} | {what} is it that {verb} |
        tell me {what} {verb} | say {what} is {doing} | name the one that {verb} |
        find the {thing} that {verb}"""
    ),
    "does": _entries(
        """does {ref} {do} | does {ref} {do} | does {ref} {do} in the {picture} | is {ref} {doing} |
        is {ref} {doing} in this {picture} | would you say {ref} {verb} | did {ref} {do} |
        do you see {ref} {doing} | is it true that {ref} {verb} | was {ref} {doing}"""
    ),
    "does any": _entries(
        """does anything {do} | does something {do} | is anything {doing} | is something {doing} |
        does any {thing} {do} | is there {a} {doing} | is there a {thing} that {verb} |
        is any {thing} {doing} | do you see anything {doing}"""
    ),
    "happens": _entries(
        """what happens | what happens in the {picture} | what happens in this {picture} |
        what is happening | what is happening in the {picture} | what is going on |
        what goes on in the {picture} | tell me what happens | what happened |
        what changes in the {picture} | what do the {thing}s do | say what is happening here |
        which events do you see"""
    ),
    "first": _entries(
        """what happens first | what happens first in the {picture} | what happens at first |
        what happens at the beginning | what is the first thing that happens |
        what happens in the first half | how does the {picture} begin | tell me what happens first |
        which event comes first"""
    ),
    "last": _entries(
        """what happens last | what happens last in the {picture} | what happens in the end |
        what happens at the end | what is the last thing that happens | what happens after that |
        what happens in the second half | how does the {picture} end | tell me what happens last |
        which event comes last | what happens then | and then"""
    ),
    "describe": _entries(
        """describe the {picture} | describe this {picture} | what is in the {picture} |
        what do you see | what does the {picture} show | what can you see in the {picture} |
        tell me about the {picture} | what is shown here | tell me what you see |
        describe what you see | what is this {picture} about | summarise the {picture} |
        what is in this {picture} | write a caption | describe the whole {picture}"""
    ),
    "turns": _entries(
        """what {colour} does {ref} turn | what {colour} does {ref} become |
        which {colour} does {ref} change to | what {colour} does {ref} turn into |
        what {colour} is {ref} at the end | what {colour} is {ref} afterwards |
        which {colour} does {ref} have at the end | what is the new {colour} of {ref}"""
    ),
}
"""Wordings of the families that pictures do not have."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "action": _entries("what is going on with {ref} | what do you notice about {ref}"),
    "direction": _entries("towards which side is {ref} heading | where does {ref} travel"),
    "which": _entries("which of them {verb} | do you know {what} {verb}"),
    "does": _entries("can you see {ref} {doing} | am i right that {ref} {verb}"),
    "count": _entries("how large is the number of {thing}s | the {thing}s, how many are they"),
    "background": _entries("in front of which {colour} is it shown | tell the {colour} behind all"),
}
"""Wordings that training never uses."""

MEDIA = ("video", "video", "video", "clip", "film", "scene", "picture", "animation")
ASKED_WHAT = ("what", "what", "which object", "which shape", "which thing", "which one")


def verb_slots(kind: str, rng: np.random.Generator | None) -> tuple[tuple[str, str], ...]:
    """Return the forms of an event's verb for questions; the canonical ones without `rng`."""
    forms = VERBS[kind]
    if rng is not None and rng.random() < 0.5:
        others = OTHER_VERBS[kind]
        forms = others[int(rng.integers(len(others)))]
    return tuple(zip(("verb", "do", "doing"), forms, strict=True))


def families() -> dict[str, tuple[str, ...]]:
    """Return the wordings of all families, those of pictures included."""
    return {**question_words.TRAINED, **TRAINED}


def ask(
    family: str,
    slots: dict[str, str],
    rng: np.random.Generator | None,
    held_out: bool = False,
) -> str:
    """Put a question into words, in lower case unless it is the canonical wording.

    Args:
        family: Of the wordings.
        slots: What fills them.
        rng: Chooses among the wordings of training; None gives the canonical one.
        held_out: Choose among the wordings that training never uses.
    """
    if "text" in slots:
        wording: tuple[str, ...] = (slots["text"].replace("{", "").replace("}", ""),)
    else:
        wording = (
            {**question_words.HELD_OUT, **HELD_OUT}[family] if held_out else families()[family]
        )
    if rng is None:
        media = {"picture": "video", "what": "what"}
        text = fill(wording[0], {**media, **slots}, None)
        return f"{text[:1].upper()}{text[1:]}?"
    media = {"picture": pick(rng, MEDIA), "what": pick(rng, ASKED_WHAT)}
    text = fill(pick(rng, wording), {**media, **slots}, rng)
    return as_typed(text if held_out else dressed(text, rng), rng)
