"""Wordings of questions about images, and how people type them.

The wordings and their slots are in `wordings/questions.toml`; some are kept for evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from demo_models.language.statement_wording import pick
from demo_models.language.wordings import PhraseTable, expanded, read

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

_WORDINGS = read("questions")
TRAINED: PhraseTable = _WORDINGS["trained"]
MORE: PhraseTable = {
    family: expanded(phrases, _WORDINGS["verbs"]) for family, phrases in _WORDINGS["more"].items()
}
HELD_OUT: PhraseTable = _WORDINGS["held_out"]
FILLERS: PhraseTable = _WORDINGS["fillers"]
BEFORE, AFTER, OMITTED = (_WORDINGS["around"][name] for name in ("before", "after", "omitted"))

WORDINGS = ("first", "all", "held out")
"""Sets of wordings: those of the first training stages, of training, and of evaluation only."""

UNKNOWN_WORD_SHARE = 0.06
STARTS = "bcdfghjklmnprstvwz"
ENDS = ("a", "e", "i", "o", "u", "el", "or", "ing", "ent", "ish", "ap")


def with_extra_words(text: str, rng: np.random.Generator) -> str:
    """Return a question with words round it, or without a small word, as often happens."""
    if rng.random() < 0.15:
        text = f"{pick(rng, BEFORE)} {text}"
    if rng.random() < 0.10:
        text = f"{text} {pick(rng, AFTER)}".replace(" ,", ",")
    if rng.random() < 0.08:
        words = text.split()
        small = [index for index, word in enumerate(words) if word in OMITTED]
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


def punctuated(text: str, rng: np.random.Generator) -> str:
    """Return a question as people type it: three in four end in a question mark."""
    draw = rng.random()
    mark = "?" if draw < 0.72 else "" if draw < 0.94 else "." if draw < 0.97 else " ?"
    return text + mark


def with_unknown_word(text: str, rng: np.random.Generator) -> str:
    """Return a question with a word that means nothing somewhere in it."""
    syllables = (pick(rng, STARTS) + pick(rng, ENDS) for _ in range(int(rng.integers(1, 4))))
    words = text.split()
    words.insert(int(rng.integers(len(words) + 1)), "".join(syllables))
    return " ".join(words)
