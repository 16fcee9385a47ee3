"""Questions that no image of this world answers: the right answer is "I don't know".

Wordings and nouns for evaluation are never trained on.
"""

from __future__ import annotations

import numpy as np

from demo_models.language.statement_wording import article, pick
from demo_models.language.unrelated_texts import nouns, sample_unrelated_text
from demo_models.language.wordings import Phrases, PhraseTable, read
from demo_models.world.vocabulary import COLOURS, SHAPES

DONT_KNOW = "I don't know"
_WORDINGS = read("unanswerable")
TRAINED: PhraseTable = _WORDINGS["trained"]
HELD_OUT: PhraseTable = _WORDINGS["held_out"]
LANGUAGES: Phrases = _WORDINGS["languages"]


def unanswerable_question(rng: np.random.Generator, held_out: bool = False) -> str:
    """Return one question without its mark.

    Args:
        rng: Source of randomness.
        held_out: Use only wordings, nouns and places that training never shows.
    """
    draw = rng.random()
    if draw < 0.08 and not held_out:
        return sample_unrelated_text(rng)
    wordings = HELD_OUT if held_out else TRAINED
    words = nouns(held_out)
    first, second = pick(rng, words), pick(rng, words)
    return pick(rng, wordings["things" if draw < 0.6 else "others"]).format(
        b=first,
        n=f"{article(first)} {first}",
        m=f"{article(second)} {second}",
        c=pick(rng, COLOURS),
        s=pick(rng, SHAPES),
        p=pick(rng, wordings["places"]),
        l=pick(rng, LANGUAGES),
        d=int(rng.integers(2, 100)),
        e=int(rng.integers(2, 100)),
    )
