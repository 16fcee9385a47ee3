"""Conversations of one to three turns about a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo_models.language.video_facts import Facts
from demo_models.language.video_questions import KINDS, Rng, VideoQuery, make_query, phrase

SHARES = {
    "even": {
        "colour": 0.09, "shape": 0.10, "count": 0.08, "yes_no": 0.12, "background": 0.05,
        "action": 0.15, "direction": 0.09, "which": 0.08, "does": 0.08, "happens": 0.05,
        "order": 0.03, "describe": 0.02, "turns": 0.01, "no_direction": 0.02, "absent": 0.03,
        "strange": 0.07,
    },
    "moving": {
        "colour": 0.05, "shape": 0.06, "count": 0.06, "yes_no": 0.08, "background": 0.03,
        "action": 0.22, "direction": 0.12, "which": 0.11, "does": 0.12, "happens": 0.06,
        "order": 0.05, "describe": 0.03, "turns": 0.02, "no_direction": 0.03, "absent": 0.03,
        "strange": 0.06,
    },
    "late": {
        "colour": 0.08, "shape": 0.06, "count": 0.07, "yes_no": 0.13, "background": 0.03,
        "action": 0.20, "direction": 0.08, "which": 0.08, "does": 0.13, "happens": 0.06,
        "order": 0.04, "describe": 0.03, "turns": 0.02, "no_direction": 0.03, "absent": 0.03,
        "strange": 0.06,
    },
    "last": {
        "colour": 0.09, "shape": 0.08, "count": 0.10, "yes_no": 0.13, "background": 0.03,
        "action": 0.22, "direction": 0.09, "which": 0.07, "does": 0.12, "happens": 0.06,
        "order": 0.03, "describe": 0.03, "turns": 0.02, "no_direction": 0.03, "absent": 0.03,
        "strange": 0.04,
    },
}  # fmt: skip
"""Shares of the kinds of questions in training."""

_PROBABILITIES = {
    mix: np.array([shares[kind] for kind in KINDS]) / sum(shares.values())
    for mix, shares in SHARES.items()
}
REPEAT_SHARE = 0.25  # of follow-up questions whose answer was said before are kept


@dataclass(frozen=True)
class Turn:
    """One question as it is worded, its answer, and the object that it is about, if about one."""

    question: str
    answer: str
    kind: str
    about: int | None = None


def draw_query(rng: Rng, facts: Facts, mix: str, last: int | None) -> VideoQuery:
    """Return a question of a random kind."""
    while True:
        kind = KINDS[int(rng.choice(len(KINDS), p=_PROBABILITIES[mix]))]
        query = make_query(rng, facts, kind, last)
        if query is not None:
            return query


def _said(query: VideoQuery, said: str) -> bool:
    return query.kind in ("colour", "shape", "direction") and query.answer in said.split()


def sample_dialogue(rng: Rng, facts: Facts, num_turns: int, mix: str) -> list[Turn]:
    """Return a conversation whose later questions seldom repeat what was said.

    Args:
        rng: Source of randomness.
        facts: Of the video.
        num_turns: How many questions.
        mix: One of `SHARES`; with "even" the first question of several is of "moving".
    """
    turns: list[Turn] = []
    last: int | None = None
    said = ""
    while len(turns) < num_turns:
        first = num_turns > 1 and not turns
        query = draw_query(rng, facts, "moving" if first and mix == "even" else mix, last)
        again = any(turn.kind == query.kind and turn.answer == query.answer for turn in turns)
        if turns and (again or _said(query, said)) and rng.random() > REPEAT_SHARE:
            continue
        question = phrase(query, rng)
        turns.append(Turn(question, query.answer, query.kind, query.about))
        said = f"{said} {question.rstrip('?.')} {query.answer}"
        last = query.about if query.about is not None else last
    return turns
