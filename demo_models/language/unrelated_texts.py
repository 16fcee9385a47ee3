"""Texts about things the demo world does not have: they are true of none of its images.

A third of the nouns and of the strings is never trained on, so that an evaluation can use words
that the model has not met.
"""

from __future__ import annotations

import numpy as np

from demo_models.language.wordings import read
from demo_models.world.vocabulary import BACKGROUNDS, SEEN_PAIRS

_WORDINGS = read("unrelated")
NOUNS, STRINGS = _WORDINGS["nouns"], _WORDINGS["strings"]


def is_held_out(index: int) -> bool:
    """Return whether the noun or string at this index is kept for evaluation."""
    return index % 3 == 2


def nouns(held_out: bool) -> list[str]:
    """Return the nouns for training, or the third kept for evaluation."""
    return [noun for index, noun in enumerate(NOUNS) if is_held_out(index) == held_out]


def unrelated_strings(held_out: bool) -> list[str]:
    """Return foreign, meaningless and abstract strings for training or for evaluation."""
    return [text for index, text in enumerate(STRINGS) if is_held_out(index) == held_out]


def _letters(rng: np.random.Generator) -> str:
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(3, 10)))
    return "".join(letters)


def sample_unrelated_text(rng: np.random.Generator, held_out: bool = False) -> str:
    """Return one text that is true of no image of this world.

    Args:
        rng: Source of randomness.
        held_out: Use only nouns and strings that training never shows.
    """
    draw = rng.random()
    if draw < 0.14:
        choices = unrelated_strings(held_out)
        return choices[int(rng.integers(len(choices)))]
    if draw < 0.18:
        return _letters(rng)
    name = "of_one" if draw < 0.55 else "of_two" if draw < 0.72 else "with_shapes"
    templates = _WORDINGS[f"templates_{name}"]
    words = nouns(held_out)
    first, second = (words[int(rng.integers(len(words)))] for _ in range(2))
    colour, shape = SEEN_PAIRS[int(rng.integers(len(SEEN_PAIRS)))]
    return templates[int(rng.integers(len(templates)))].format(
        n=first,
        m=second,
        c=colour,
        s=shape,
        b=BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))],
    )
