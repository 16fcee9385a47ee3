"""The bundled demo-viclip: its thresholds, and figures that hold on a new sample."""

import numpy as np
import pytest

from demo_models.evaluation.held_out_videos import direction_questions, text_questions
from demo_models.evaluation.moments import moment_questions, overlap, score
from demo_models.evaluation.viclip import (
    GATES_PERCENT,
    measure,
    open_viclip,
    pipeline_backend,
)
from demo_models.evaluation.video_verdict import video_pairs
from demo_models.world.motion import SUDDEN
from demo_models.world.video_files import FORMATS
from pipelines.models.viclip.checkpoints import DEMO_VICLIP
from tests.demo_models.bundled import load_json, slack_percent

QUICK_FORMATS = (FORMATS[1], *FORMATS[3:])


@pytest.mark.parametrize(
    ("num", "formats"),
    [(24, QUICK_FORMATS), pytest.param(100, FORMATS, marks=pytest.mark.slow)],
    ids=["few", "many"],
)
def test_a_new_sample_agrees_with_the_measured_figures(tmp_path, num, formats):
    asked = [
        *direction_questions(9001, num, tmp_path, True, formats),
        *text_questions(9001, num, tmp_path, True, formats),
    ]
    with open_viclip() as viclip:
        figures = measure(pipeline_backend(viclip), [q for q in asked if q.kind in GATES_PERCENT])
    measured = load_json("demo-viclip", "eval.json")["app"]["accuracy"]
    assert set(GATES_PERCENT) <= set(figures)
    for kind in GATES_PERCENT:
        expected = measured[kind]["percent"]
        gap = figures[kind]["percent"] - expected
        assert abs(gap) < min(slack_percent(expected, num), 12 if num < 100 else 6), kind


def test_the_catalogue_has_the_calibrated_thresholds():
    verdict = load_json("demo-viclip", "verdict.json")
    traits = DEMO_VICLIP.video_text
    assert traits is not None
    assert traits.calibrated
    assert traits.text_thresholds == tuple(verdict["thresholds"])
    assert traits.neutral_weight == verdict["neutral_weight"]


def test_pairs_for_the_verdict_are_half_true():
    pairs = video_pairs(3, 60)
    assert 0.45 < np.mean([pair.is_true for pair in pairs]) < 0.6
    assert {pair.kind for pair in pairs} >= {"action", "order", "off-world", "non-scene"}


def test_moments_are_scored_by_what_they_share(tmp_path):
    assert overlap((0, 2), (1, 3)) == pytest.approx(1 / 3)
    assert overlap((0, 1), (2, 3)) == 0.0
    asked = list(moment_questions(5, 2, tmp_path))
    assert {question.kind in SUDDEN for question in asked} == {True, False}
    assert all(question.start_s <= question.end_s for question in asked)
    for question in asked:
        perfect = [(question.start_s - 0.1, question.end_s + 0.1)]
        assert all(score(question, perfect).values())
        assert not any(score(question, [(question.end_s + 1, question.end_s + 5)]).values())
