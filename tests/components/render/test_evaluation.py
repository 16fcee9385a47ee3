"""What the Evaluate tab shows of results, without a model."""

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from components.render import evaluation as fmt
from pipelines.evaluation.job import Evaluation, Mistake
from pipelines.evaluation.results import measure
from pipelines.models.linear_probe import Guess

NASTY = "<b>&'\"cat"


def evaluation(labels: tuple[str, ...] = (NASTY, "dog", "fox"), **changes: object) -> Evaluation:
    """Return a zero-shot evaluation of two pictures of each class; the second is mistaken."""
    num = len(labels)
    true = [index // 2 for index in range(2 * num)]
    taken = [(index // 2 + index % 2) % num for index in range(2 * num)]
    guesses = [Guess((one,), (0.5 + index / 100,)) for index, one in enumerate(taken)]
    files = [f"{labels[index // 2]}/{index}.png" for index in range(2 * num)]
    given: dict[str, object] = {
        "model": "demo-clip",
        "num_pictures": 2 * num,
        "num_fitted": 0,
        "zero_shot": measure(labels, files, true, guesses),
        "by_probe": None,
        "probe": None,
        "left_out": (),
        "notes": (),
        **changes,
    }
    return Evaluation(**given)  # type: ignore[arg-type]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def shown_anywhere(found: Evaluation) -> str:
    return (
        fmt.figures(found)
        + fmt.confusion_table(found.measured)
        + fmt.classes_table(found)
        + fmt.mistakes_strip(found)
        + fmt.left_out_table(found)
    )


def test_names_of_a_visitor_are_text_and_are_not_translated() -> None:
    found = evaluation(left_out=(("<i>x", "why <u>"),))
    mistakes = tuple(Mistake(one, b"") for one in found.measured.mistakes)
    page = shown_anywhere(evaluation(left_out=found.left_out, mistakes=mistakes))
    assert "<b>&" not in page
    assert "<i>x" not in page
    assert "<u>" not in page
    assert page.count("translate='no'") >= 3 * 3
    assert "&lt;b&gt;&amp;" in page


def test_figures() -> None:
    text = re.sub("<[^>]*>", " ", fmt.figures(evaluation()))
    assert "50.0 %" in text
    assert "3 of 6 right" in text
    assert "95 % interval: 18.8 % to 81.2 %" in text
    assert "best five" not in text


def test_the_matrix_is_cut_and_the_file_is_whole() -> None:
    found = evaluation(tuple(f"class {index}" for index in range(60)))
    table = fmt.confusion_table(found.measured)
    assert table.count("<td") == 40 * 40
    assert "The first 40 are shown" in table
    rows = read(fmt.confusion_csv(found))
    assert [len(row) for row in rows] == [61] * 61
    assert rows[1][:4] == ["class 0", "1", "1", "0"]


def test_a_long_name_keeps_its_end() -> None:
    found = evaluation(("a very long name of a class that ends in one", "dog"))
    assert "a very lon…" in fmt.confusion_table(found.measured)
    assert " in one</span>" in fmt.confusion_table(found.measured)


def test_the_classes_with_the_lowest_accuracy_come_first() -> None:
    labels, files = ("a", "b"), ["1", "2", "3"]
    guesses = [Guess((0,), (0.9,)), Guess((0,), (0.8,)), Guess((1,), (0.7,))]
    found = evaluation(zero_shot=measure(labels, files, [0, 1, 1], guesses))
    names = re.findall(r"class='name'><span translate='no'>(\w)", fmt.classes_table(found))
    assert names[:3] == ["b", "a", "a"]  # b, taken for a; then a
    assert [row[0] for row in read(fmt.classes_csv(found))] == ["label", "a", "b"]


def test_files_left_out_are_in_the_table_and_in_the_file() -> None:
    left_out = tuple((f"{index}.png", "It is empty.") for index in range(70))
    found = evaluation(left_out=left_out)
    table = fmt.left_out_table(found)
    assert table.count("class='bad'") == fmt.LEFT_OUT_SHOWN
    assert "hold all 70" in table
    rows = read(fmt.predictions_csv(found))
    assert rows[0] == ["file", "label", "predicted", "probability", "error"]
    assert len(rows) == 1 + 6 + 70
    assert rows[-1] == ["69.png", "", "", "", "It is empty."]
    assert fmt.left_out_table(evaluation()) == ""


@pytest.mark.parametrize("make", [fmt.as_summary, fmt.as_predictions])
def test_what_scripts_get_is_plain(make: Callable[[Evaluation], Any]) -> None:
    told = make(evaluation())
    assert json.loads(json.dumps(told)) == told
