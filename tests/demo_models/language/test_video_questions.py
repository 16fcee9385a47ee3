"""Questions about videos, their facts, and dialogues."""

from __future__ import annotations

import numpy as np

from demo_models.language.dialogues import sample_dialogue
from demo_models.language.video_facts import Actor, Facts, facts_of
from demo_models.language.video_questions import KINDS, make_query, phrase
from demo_models.training.videochat.data import (
    Flip,
    flipped_motion,
)
from demo_models.world.motion import Event, Motion
from demo_models.world.motion_sampling import MotionOptions, sample_motion
from demo_models.world.vocabulary import HELD_OUT_PAIRS

FLIPS = [Flip(mirror, backwards) for mirror in (False, True) for backwards in (False, True)]


def _facts(*actors: Actor) -> Facts:
    events = tuple((index, kind) for index, actor in enumerate(actors) for kind in actor.kinds)
    return Facts(actors, events, "white")


CIRCLE = Actor("circle", "red", ("left",), None, True)

STAR = Actor("star", "blue", ("recolour",), "green", True)


def test_facts_are_told_in_sentences() -> None:
    facts = _facts(CIRCLE, STAR)
    assert facts.happens() == "the red circle moves left, then the blue star turns green"
    assert facts.action(1) == "it turns green"
    assert facts.description().startswith("a red circle and a blue star on a white background. ")


def test_a_recoloured_object_is_of_no_certain_colour() -> None:
    assert STAR.has("blue", "star") is None
    assert STAR.has("red", "star") is False
    assert STAR.has(None, "star") is True


def test_facts_tell_a_motion_as_it_looks() -> None:
    rng = np.random.default_rng(8)
    motion = sample_motion(rng, MotionOptions(kinds=("left",), event_shares=(0.0, 1.0)))
    assert [kind for _, kind in facts_of(motion).events] == ["left"]
    for flip, want in zip(FLIPS, ("left", "right", "right", "left"), strict=True):
        assert [kind for _, kind in facts_of(flipped_motion(motion, flip)).events] == [want]


def test_a_doubtful_event_is_not_asked_about() -> None:
    rng = np.random.default_rng(9)
    motion = sample_motion(rng, MotionOptions(count_shares=(1.0,), event_shares=(1.0,)))
    mover = motion.movers[0]
    late = Event("disappear", 0.95, 0.95)
    doubtful = Motion(motion.page, (type(mover)(mover.item, (late,), True),))
    facts = facts_of(doubtful)
    assert not facts.sure
    for kind in ("action", "happens", "describe", "which", "does", "order"):
        assert make_query(rng, facts, kind) is None


def test_every_kind_can_be_asked_and_worded() -> None:
    rng = np.random.default_rng(10)
    left = set(KINDS)
    for _ in range(300):
        facts = facts_of(sample_motion(rng))
        for kind in KINDS:
            query = make_query(rng, facts, kind)
            if query is not None:
                left.discard(kind)
                assert "{" not in phrase(query) + phrase(query, rng)
                assert query.answer
    assert not left


def test_held_out_pairs_are_never_named() -> None:
    rng = np.random.default_rng(11)
    names = [" ".join(pair) for pair in HELD_OUT_PAIRS]
    for _ in range(300):
        for turn in sample_dialogue(rng, facts_of(sample_motion(rng)), 3, "even"):
            if turn.kind != "strange":
                assert not any(name in f"{turn.question} {turn.answer}" for name in names)


def test_the_second_question_may_say_it_of_what_was_asked() -> None:
    rng = np.random.default_rng(12)
    facts = _facts(CIRCLE, STAR)
    texts = [phrase(make_query(rng, facts, "shape", last=0), rng) for _ in range(60)]  # type: ignore[arg-type]
    assert any(" it" in f" {text}" for text in texts)
    alone = [phrase(make_query(rng, facts, "shape"), rng) for _ in range(60)]  # type: ignore[arg-type]
    assert not any("object" not in t and t.rstrip("?. ").endswith(" is it") for t in alone)
