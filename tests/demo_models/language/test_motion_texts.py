"""Statements about videos: their truth, and false changes of them."""

import numpy as np
import pytest

from demo_models.language.motion_statements import Act, VideoClaim, judge_claim, view_of
from demo_models.language.motion_texts import CLAIM_KINDS, false_claim, true_claim, word_claim
from demo_models.world.motion_sampling import sample_motion
from demo_models.world.vocabulary import HELD_OUT_PAIRS


@pytest.mark.parametrize("kind", CLAIM_KINDS)
def test_true_claims_are_true_and_false_ones_false(kind):
    rng = np.random.default_rng(3)
    for _ in range(60):
        view = view_of(sample_motion(rng))
        claim = true_claim(rng, view, kind)
        assert judge_claim(claim, view) is True
        assert not any((act.colour, act.shape) in HELD_OUT_PAIRS for act in claim.acts)
        changed = false_claim(rng, view, claim)
        if changed is not None:
            assert judge_claim(changed, view) is False
            assert changed.text != claim.text


def test_truth_by_hand():
    from demo_models.language.motion_statements import SeenEvent, SeenObject, View

    objects = (SeenObject("circle", {"red": True}), SeenObject("star", {"blue": True}))
    left = SeenEvent(0, "left", "red", "slow", None, 0.1, True)
    spin = SeenEvent(1, "spin", "blue", None, None, 0.6, True)
    view = View("white", objects, (left, spin), frozenset({2}))

    def judged(*acts, **facts):
        return judge_claim(VideoClaim("", acts, **facts), view)

    circle, star = Act("red", "circle", "left"), Act("blue", "star", "spin")
    assert judged(circle) is True
    assert judged(Act("red", "circle", "right")) is False
    assert judged(Act("blue", "circle", "left")) is False
    assert judged(Act(None, None, "move")) is True
    assert judged(Act("red", "circle", "left", speed="fast")) is False
    assert judged(circle, star, in_order=True) is True
    assert judged(star, circle, in_order=True) is False
    assert judged(Act("blue", "star", "still")) is False
    assert judged(nothing=True) is False
    assert judged(total=2) is True
    assert judged(total=3) is False
    assert judged(background="black") is False
    text = word_claim(VideoClaim("", (circle, star), in_order=True)).text
    assert text == "a red circle moves left, then a blue star spins"
