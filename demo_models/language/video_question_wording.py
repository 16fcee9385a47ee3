"""Wordings of questions about videos: those of images and further ones.

The wordings and their slots are in `wordings/video_questions.toml`.
"""

from __future__ import annotations

import numpy as np

from demo_models.language import question_wording
from demo_models.language.question_wording import fill, punctuated, with_extra_words
from demo_models.language.statement_wording import pick
from demo_models.language.wordings import PhraseTable, read

_WORDINGS = read("video_questions")
VERBS: dict[str, tuple[str, str, str]] = _WORDINGS["verbs"]
"""Of each kind of event: "it ...", "does it ...", "is it ..."; the canonical forms."""

OTHER_VERBS: dict[str, tuple[tuple[str, str, str], ...]] = _WORDINGS["other_verbs"]
"""The same, for questions only."""

TRAINED: PhraseTable = {**question_wording.TRAINED, **_WORDINGS["trained"]}
HELD_OUT: PhraseTable = {**question_wording.HELD_OUT, **_WORDINGS["held_out"]}
MEDIA, ASKED_WHAT = _WORDINGS["media"], _WORDINGS["asked_what"]


def verb_slots(kind: str, rng: np.random.Generator | None) -> tuple[tuple[str, str], ...]:
    """Return the forms of an event's verb for questions; the canonical ones without `rng`."""
    forms = VERBS[kind]
    if rng is not None and rng.random() < 0.5:
        others = OTHER_VERBS[kind]
        forms = others[int(rng.integers(len(others)))]
    return tuple(zip(("verb", "do", "doing"), forms, strict=True))


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
        wording = (HELD_OUT if held_out else TRAINED)[family]
    if rng is None:
        media = {"picture": "video", "what": "what"}
        text = fill(wording[0], {**media, **slots}, None)
        return f"{text[:1].upper()}{text[1:]}?"
    media = {"picture": pick(rng, MEDIA), "what": pick(rng, ASKED_WHAT)}
    text = fill(pick(rng, wording), {**media, **slots}, rng)
    return punctuated(text if held_out else with_extra_words(text, rng), rng)
