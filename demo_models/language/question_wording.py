"""Ways to word a question, some of them kept for evaluation, and the frames round it.

Slots: {ref} "the circle", {a} "a red circle", {many} "red circles", {value} a colour,
{first} and {second} "the red circle", {relation} "left of", {colour} "colour" or "color",
{picture} "picture", "image", ..., {thing} "shape" or "object".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from demo_models.language.more_words import MORE
from demo_models.language.statement_wording import pick

FRAME = "Question: {} Answer:"
"""The frame of real BLIP-2 checkpoints."""
FRAMES = (FRAME,) * 40 + ("{}",) * 6 + ("{} Answer:", "Q: {} A:", "Question: {} Short answer:")
PREFIXES = (
    "a photo of",
    "a photo of",
    "a photo of",
    "a picture of",
    "an image of",
    "a drawing of",
    "this is",
    "this picture shows",
)
"""Beginnings of a caption that the model completes."""


def _entries(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split("|"))


TRAINED: dict[str, tuple[str, ...]] = {
    "describe": _entries(
        """what is in the {picture} | what is in this {picture} | what do you see |
        what is this | what does the {picture} show | describe the {picture} |
        describe this {picture} | what can you see in the {picture} |
        what is shown here | what is there in the {picture} | tell me what you see |
        what is drawn here | write a caption | caption the {picture} |
        what is on the {picture} | describe what you see | what are you looking at"""
    ),
    "colour": _entries(
        """what {colour} is {ref} | which {colour} is {ref} |
        what is the {colour} of {ref} | what's the {colour} of {ref} |
        tell me the {colour} of {ref} | name the {colour} of {ref} |
        what {colour} does {ref} have | the {colour} of {ref} |
        what {colour} has {ref} | what {colour} is {ref} in this {picture} |
        do you know what {colour} {ref} is | can you tell me the {colour} of {ref} |
        which {colour} does {ref} have | what is {ref}'s {colour} | {colour} of {ref} |
        and what {colour} is {ref} | say what {colour} {ref} is |
        what {colour} would you call {ref} | {ref}, what {colour} |
        what {colour} was used for {ref} | what {colour} do you see on {ref} |
        give me the {colour} of {ref} | what {colour} are we seeing on {ref}"""
    ),
    "shape": _entries(
        """what shape is {ref} | which shape is {ref} | what is the shape of {ref} |
        what kind of shape is {ref} | tell me the shape of {ref} |
        name the shape of {ref} | what's the shape of {ref} | the shape of {ref} |
        what form has {ref} | what shape is {ref} in this {picture} |
        do you know what shape {ref} is | can you tell me the shape of {ref} |
        what type of shape is {ref} | what form is {ref} | shape of {ref} |
        and what shape is {ref} | say what shape {ref} is |
        what shape would you call {ref} | {ref}, what shape |
        give me the shape of {ref} | what shape do you call {ref} |
        is {ref} a circle or something else"""
    ),
    "the shape": _entries(
        """what shape is in the {picture} | what shape is this | which shape do you see |
        what shape is shown | what shape is there | what shape can you see |
        what shape do you see | which shape is in this {picture} | name the shape |
        what is the shape | what shape"""
    ),
    "the colour": _entries(
        """what {colour} is this | which {colour} do you see | what {colour} is shown |
        what is the {colour} | name the {colour} | what {colour} | what {colour} is it"""
    ),
    "count": _entries(
        """how many {thing}s are there | how many {thing}s are in the {picture} |
        how many {thing}s do you see | how many {thing}s can you see |
        count the {thing}s | how many {thing}s are in this {picture} |
        what is the number of {thing}s | number of {thing}s | how many {thing}s |
        how many {thing}s are shown | tell me how many {thing}s there are |
        can you count the {thing}s | how many {thing}s are drawn | how many are there |
        say how many {thing}s there are | give me the number of {thing}s |
        how many {thing}s do we have | how many {thing}s did you find |
        what is the count of {thing}s"""
    ),
    "count of": _entries(
        """how many {many} are there | how many {many} are in the {picture} |
        how many {many} do you see | how many {many} can you see | count the {many} |
        how many {many} are in this {picture} | what is the number of {many} |
        number of {many} | how many {many} | how many {many} are shown |
        tell me how many {many} there are | can you count the {many} |
        say how many {many} there are | give me the number of {many} |
        how many {many} do we have | how many {many} did you find |
        what is the count of {many}"""
    ),
    "presence": _entries(
        """is there {a} | is there {a} in the {picture} | do you see {a} |
        can you see {a} | does the {picture} show {a} | are there any {many} |
        is {a} in the {picture} | is there {a} in this {picture} |
        are there {many} in the {picture} | is there any {one} |
        does this {picture} show {a} | do you see any {many} | can you find {a} |
        is {a} here | is {a} shown | is {a} drawn here | did you see {a} |
        has the {picture} {a} | does it have {a} | is {a} somewhere in the {picture} |
        do we have {a} here | is one of them {a} | does it show {a} | any {many} |
        there is {a}, right | would i find {a} here"""
    ),
    "is a": _entries(
        """is this {a} | is it {a} | is that {a} | is the {thing} {a} |
        is this {picture} of {a} | do you see {a} here | was {a} drawn |
        is this thing {a} | am i seeing {a}"""
    ),
    "is colour": _entries(
        """is {ref} {value} | is {ref} {value} in this {picture} |
        is the {colour} of {ref} {value} | does {ref} have the {colour} {value} |
        would you say {ref} is {value} | {ref} is {value}, right |
        do you see that {ref} is {value} | is {ref} {value} or not |
        was {ref} drawn {value} | has {ref} the {colour} {value}"""
    ),
    "is background": _entries(
        """is the background {value} | is the background {colour} {value} |
        is it a {value} background | does the {picture} have a {value} background |
        is there a {value} background | is the page {value} |
        is the {colour} behind it {value} | was the background drawn {value}"""
    ),
    "size": _entries(
        """is {ref} large or small | is {ref} small or large | what size is {ref} |
        how big is {ref} | is {ref} big or small | how large is {ref} |
        tell me the size of {ref} | what size has {ref} | is {ref} small or big |
        which size is {ref} | say how large {ref} is | {ref}, large or small |
        what size would you give {ref} | give me the size of {ref} |
        is {ref} a large one or a small one | {ref}: big or small"""
    ),
    "background": _entries(
        """what {colour} is the background | what is the background {colour} |
        which {colour} is the background | what {colour} does the background have |
        what background {colour} is it | the background {colour} |
        tell me the background {colour} | name the {colour} of the background |
        which {colour} does the background have | what's the background {colour} |
        what is the background | and the background |
        what {colour} is the background of the {picture} |
        what {colour} is behind {ref} | say what {colour} the background is |
        what {colour} is the page | what {colour} lies behind {ref} |
        what {colour} was used for the background | give me the background {colour} |
        what {colour} background do you see | on what {colour} is it drawn"""
    ),
    "where": _entries(
        """where is {ref} | where is {ref} in the {picture} | where do you see {ref} |
        in which part of the {picture} is {ref} | what is the position of {ref} |
        where can i find {ref} | where in the {picture} is {ref} | where's {ref} |
        tell me where {ref} is | in what part of the {picture} is {ref} |
        and where is {ref} | what is the place of {ref} | where can you see {ref} |
        which part of the {picture} has {ref} | whereabouts is {ref} |
        on which side is {ref} | at which place do you see {ref} |
        where does {ref} lie | what place has {ref} | where was {ref} drawn |
        where should i look for {ref} | say where {ref} is |
        on what part of the {picture} is {ref}"""
    ),
    "relation": _entries(
        """is {first} {relation} {second} |
        is {first} {relation} {second} in the {picture} |
        does {first} lie {relation} {second} | can you see {first} {relation} {second} |
        {first} is {relation} {second}, right"""
    ),
    "places": _entries("what is where in the {picture} | where is every {thing}"),
}  # fmt: skip
"""By family; the first wording is the canonical one."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "describe": _entries(
        """what does this {picture} contain | can you describe this {picture} |
        what am i looking at"""
    ),
    "colour": _entries("in what {colour} is {ref} drawn | {ref} has which {colour}"),
    "shape": _entries("what shape does {ref} have | which kind of shape is {ref}"),
    "the shape": _entries("what shape does the {picture} show | which shape is drawn here"),
    "the colour": _entries("what {colour} do you see | tell me the {colour}"),
    "count": _entries(
        """how many {thing}s does the {picture} show | what number of {thing}s is there"""
    ),
    "count of": _entries(
        """how many {many} does the {picture} show | what number of {many} is there"""
    ),
    "presence": _entries(
        """does the {picture} contain {a} | is {a} visible | could you spot {a} |
        is {a} part of the {picture} | did the painter add {a}"""
    ),
    "is a": _entries("does this show {a} | would you call this {a} | is that thing there {a}"),
    "is colour": _entries("does {ref} look {value} | is {ref} coloured {value}"),
    "is background": _entries(
        """is the page behind it {value} | is everything on a {value} background"""
    ),
    "size": _entries("what is the size of {ref} | would you say {ref} is large or small"),
    "background": _entries(
        """what is the {colour} of the background | what {colour} background is it"""
    ),
    "where": _entries(
        """where is {ref} located | in the {picture}, where is {ref} | where has {ref} gone |
        at which end of the {picture} is {ref} | could you locate {ref}"""
    ),
    "relation": _entries(
        """would you say {first} is {relation} {second} |
        is it true that {first} is {relation} {second}"""
    ),
    "places": _entries("say where each {thing} lies"),
}  # fmt: skip
"""Wordings that training never uses."""

WORDINGS = ("first", "all", "held out")
"""The sets of wordings: of the first training stages, of training, of evaluation only."""

FILLERS = {
    "colour": ("colour", "color"),
    "picture": ("picture", "image", "photo", "drawing", "picture", "scene", "pic"),
    "thing": ("shape", "object", "shape", "thing"),
}


BEFORE = _entries(
    """please tell me | can you tell me | hey, | so | ok, | i want to know | do you know | now |
    look at the picture: | and | well, | please | just tell me | question: | i ask you"""
)
AFTER = _entries(
    """please | here | in the picture | in this image | exactly | do you think | now | on the page |
    then | in your opinion | in one word | , thanks | , please | in this"""
)
SMALL_WORDS = frozenset(["the", "is", "there", "do", "does", "are", "of", "in", "a", "you"])
"""Words that people leave out."""


def dressed(text: str, rng: np.random.Generator) -> str:
    """Return a question with words round it, or without a small word, as often happens."""
    if rng.random() < 0.15:
        text = f"{pick(rng, BEFORE)} {text}"
    if rng.random() < 0.10:
        text = f"{text} {pick(rng, AFTER)}".replace(" ,", ",")
    if rng.random() < 0.08:
        words = text.split()
        small = [index for index, word in enumerate(words) if word in SMALL_WORDS]
        if small:
            del words[small[int(rng.integers(len(small)))]]
            text = " ".join(words)
    return text


def fill(template: str, slots: Mapping[str, str], rng: np.random.Generator | None) -> str:
    """Return a wording with its slots filled; without `rng` the fillers are the first ones."""
    fillers = {
        name: pick(rng, values) if rng is not None else values[0]
        for name, values in FILLERS.items()
    }
    return template.format(**{**fillers, **slots})


def wordings(family: str, words: str) -> Sequence[str]:
    """Return the wordings of a family, of one of the sets `WORDINGS`."""
    if words == "held out":
        return HELD_OUT[family]
    return TRAINED[family] if words == "first" else (*TRAINED[family], *MORE.get(family, ()))


def as_typed(text: str, rng: np.random.Generator) -> str:
    """Return a question as people type it: three in four end in a question mark."""
    draw = rng.random()
    mark = "?" if draw < 0.72 else "" if draw < 0.94 else "." if draw < 0.97 else " ?"
    return text + mark
