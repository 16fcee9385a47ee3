"""The bundled demo-blip2: complete files, and figures that hold on new samples."""

import pytest

from demo_models.evaluation.blip2 import StockBlip2, measure, measure_hint, object_names
from demo_models.evaluation.blip2_questions import (
    ASKED,
    GATES_PERCENT,
    Case,
    all_cases,
    drawing_questions,
    questions,
    reworded,
)
from demo_models.evaluation.held_out import scene_cases
from demo_models.language.question_wording import FRAME
from demo_models.language.questions import (
    KIND_SHARES,
    caption_text,
)
from demo_models.language.unanswerable import (
    DONT_KNOW,
)
from tests.demo_models.bundled import CHECKPOINTS, load_json, slack_percent

CHECKPOINT = CHECKPOINTS / "demo-blip2"
NUM = 50


@pytest.fixture(scope="module")
def stock():
    return StockBlip2(CHECKPOINT)


def test_object_names_forget_the_order():
    caption = "a red star, two blue rings and a pink moon on a grey background"
    assert object_names(caption) == ["a pink moon", "a red star", "two blue rings"]


def test_missed_gates_are_named():
    report = load_json("demo-blip2", "eval.json")
    for via in ("transformers", "app"):
        figures = report[via]["accuracy"]
        assert all(figures[kind]["n"] >= 500 for kind in GATES_PERCENT)
        missed = [k for k, gate in GATES_PERCENT.items() if figures[k]["percent"] < gate]
        assert report[via]["gates_missed"] == missed


def test_the_app_answers_as_the_stock_classes_do():
    report = load_json("demo-blip2", "eval.json")
    stock, app = report["transformers"]["accuracy"], report["app"]["accuracy"]
    assert set(app) >= set(GATES_PERCENT)
    for kind in GATES_PERCENT:
        slack = slack_percent(stock[kind]["percent"], app[kind]["n"])
        assert abs(app[kind]["percent"] - stock[kind]["percent"]) < slack, kind


def test_the_hint_is_for_pictures_of_something_else(stock):
    figures = measure_hint(stock, load_json("demo-blip2", "demo.json"), 9002, NUM)
    measured = load_json("demo-blip2", "eval.json")["transformers"]["hint"]
    for kind, figure in figures.items():
        slack = slack_percent(measured[kind]["percent"], figure["n"])
        assert abs(figure["percent"] - measured[kind]["percent"]) < slack, kind
    assert figures["scene_of_1_to_4"]["percent"] < 10 < figures["non_scene"]["percent"]


def test_a_new_sample_agrees_with_the_measured_figures(stock):
    paint = [case for case in drawing_questions(9001, NUM) if case.kind in GATES_PERCENT]
    asked = [*questions(9001, NUM, gated_only=True), *paint]
    scenes = scene_cases(9001, NUM)
    asked += [Case("caption", case.image, "", caption_text(case.scene)) for case in scenes]
    figures = measure(stock, asked)
    measured = load_json("demo-blip2", "eval.json")["transformers"]["accuracy"]
    assert set(GATES_PERCENT) - set(figures) == {"same_answer_in_other_words"}
    for kind, figure in figures.items():
        expected = measured[kind]["percent"]
        slack = slack_percent(expected, figure["n"])
        assert abs(figure["percent"] - expected) < slack, kind


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "Is this a cat?",
        "is this a cat",
        "Who is the man in the photo?",
    ],
)
def test_what_no_picture_tells_is_not_known(stock, question):
    case = scene_cases(77, 1)[0]
    assert stock([case.image], [FRAME.format(question)]) == [DONT_KNOW]


def test_case_and_spelling_do_not_matter(stock):
    cases = scene_cases(78, 12)
    asked = ("What colour is it?", "what color is it?", "WHAT COLOR IS IT", "what colour is it")
    answers = [
        stock.answers([Case("", case.image, FRAME.format(text), "") for case in cases])
        for text in asked
    ]
    assert answers[0] == [case.scene.objects[0].colour for case in cases]
    assert all(other == answers[0] for other in answers[1:])


def test_evaluation_cases_are_fixed_and_complete():
    first, again = ([*questions(3, 2)] for _ in range(2))
    assert [(c.kind, c.prompt, c.answer) for c in first] == [
        (c.kind, c.prompt, c.answer) for c in again
    ]
    assert {case.kind for case in first} >= {*ASKED, "strange"}
    assert {case.answer for case in first if case.kind == "strange"} == {DONT_KNOW}
    assert all(case.prompt.startswith("Question: ") for case in first)
    assert all(a.answer == b.answer for a, b in reworded(3, 2, held_out=False))
    assert len({case.kind for case in drawing_questions(3, 1)}) == 6
    assert set(KIND_SHARES) - {"describe"} <= {case.kind for case in all_cases(3, 1)}
