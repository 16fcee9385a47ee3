"""Good input through gradio_client, answered by the bundled model in the running app."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio.media import get_image
from gradio_client import Client, handle_file
from PIL import Image

from pipelines.models.catalogue import MODELS
from pipelines.weights.locate import BUNDLE
from tests.conftest import draw_circle
from tests.support.app_process import ROOT

EXAMPLES = ROOT / "assets" / "examples"
DRAWN: list[dict[str, Any]] = json.loads((EXAMPLES / "examples.json").read_text("utf-8"))
BY_FILE = {entry["file"]: entry for entry in DRAWN}

Save = Callable[..., Path]


def classify(client: Client, image: Path | str, labels: str, **options: str) -> Any:
    """Return (label, scores) of `/classify_image`."""
    return client.predict(
        image=handle_file(image), labels=labels, api_name="/classify_image", **options
    )


def by_label(scores: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in scores}


@pytest.mark.parametrize("file", BY_FILE)
def test_examples_are_answered_rightly(client: Client, file: str) -> None:
    entry = BY_FILE[file]
    labels = "\n".join(entry["labels"])
    label, scores = classify(client, EXAMPLES / file, labels, templates="photo")
    assert label["label"] in entry["true_labels"]
    assert scores[0]["verdict"] == "match"
    assert label["notes"] == []
    assert sorted(row["label"] for row in scores) == sorted(entry["labels"])


def test_probabilities_are_shares_and_sorted(client: Client, red_circle: Path) -> None:
    labels = "red circle\nblue star\ngreen square\na ring"
    _, scores = classify(client, red_circle, labels)
    probabilities = [row["probability"] for row in scores]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-6)
    cosines = [row["cosine"] for row in scores]
    assert cosines == sorted(cosines, reverse=True), "softmax keeps the order of the cosines"
    assert all(-1.0 <= value <= 1.0 for value in cosines)
    assert {row["verdict"] for row in scores} <= {"match", "unsure", "no match"}


@pytest.mark.parametrize(
    "labels",
    [
        "red circle, blue star",
        "red circle，blue star",
        "red circle\nblue star",
        "red circle,,blue star,",
        "\n red circle \n\nblue star\n",
    ],
    ids=["commas", "Chinese commas", "lines", "empty ones", "empty lines"],
)
def test_labels_are_split_by_comma_or_line(client: Client, red_circle: Path, labels: str) -> None:
    label, scores = classify(client, red_circle, labels)
    assert [row["label"] for row in scores] == ["red circle", "blue star"]
    assert label["notes"] == []


def test_commas_stay_where_there_are_lines(client: Client, red_circle: Path) -> None:
    _, scores = classify(client, red_circle, "a circle, red\nblue star")
    assert set(by_label(scores)) == {"a circle, red", "blue star"}


def test_one_label_is_certain_but_judged(client: Client, red_circle: Path) -> None:
    (right,) = classify(client, red_circle, "red circle")[1]
    (wrong,) = classify(client, red_circle, "blue star")[1]
    assert right["probability"] == wrong["probability"] == 1.0
    assert (right["verdict"], wrong["verdict"]) == ("match", "no match")


def test_duplicates_count_once_and_are_named(client: Client, red_circle: Path) -> None:
    label, scores = classify(client, red_circle, "red circle\nblue star\nred circle\n red circle")
    plain = classify(client, red_circle, "red circle\nblue star")
    assert scores == plain[1]
    assert [note for note in label["notes"] if "red circle" in note and "once" in note]


def test_a_thousand_labels(client: Client, red_circle: Path) -> None:
    labels = [f"thing number {index}" for index in range(999)] + ["red circle"]
    label, scores = classify(client, red_circle, "\n".join(labels))
    assert label["label"] == "red circle"
    assert len(scores) == len(label["confidences"]) == 1000
    assert sum(row["probability"] for row in scores) == pytest.approx(1.0, abs=1e-6)


def test_other_labels_never_change_a_verdict(client: Client, red_circle: Path) -> None:
    asked = ["red circle", "blue star", "red ring", "a photo of a red circle"]
    alone = by_label(classify(client, red_circle, "\n".join(asked))[1])
    colours, shapes = ("pink", "green", "brown", "white", "black"), ("cross", "moon", "heart")
    decoys = [f"{c} {s} {i}" for c in colours for s in shapes for i in range(4)][:50]
    crowded = by_label(classify(client, red_circle, "\n".join(asked + decoys))[1])
    assert len(crowded) == len(asked) + 50
    for label in asked:
        assert crowded[label]["verdict"] == alone[label]["verdict"]
        assert crowded[label]["cosine"] == pytest.approx(alone[label]["cosine"], abs=1e-5)
    assert len({row["verdict"] for row in alone.values()}) > 1, "the labels must differ in fit"


def test_templates_change_the_text_that_is_read(client: Client, red_circle: Path) -> None:
    custom = "a picture that shows a {} and nothing else"
    cosines = {}
    for templates in ("", "photo", "ensemble", custom):
        label, scores = classify(client, red_circle, "red circle\nblue star", templates=templates)
        assert label["label"] == "red circle"
        cosines[templates] = scores[0]["cosine"]
    assert len(set(cosines.values())) == 4
    by_hand = classify(client, red_circle, custom.replace("{}", "red circle"))[1][0]
    assert by_hand["cosine"] == pytest.approx(cosines[custom], abs=1e-5)


def test_chinese_is_answered_with_a_hint(client: Client, red_circle: Path) -> None:
    label, scores = classify(client, red_circle, "红色圆形，蓝色星星")
    assert {row["label"] for row in scores} == {"红色圆形", "蓝色星星"}
    assert [note for note in label["notes"] if "Chinese" in note and "chinese-clip-b16" in note]


def test_what_was_not_read_of_a_long_label_is_said(client: Client, red_circle: Path) -> None:
    long = "red circle " * 60
    label, scores = classify(client, red_circle, f"{long}\nblue star")
    rows = by_label(scores)
    assert "first 32 tokens" in rows[long.strip()]["note"]
    assert rows["blue star"]["note"] == ""
    assert label["label"] == long.strip()


def test_a_photo_gets_the_hint_that_it_is_foreign(client: Client) -> None:
    label, _ = classify(client, get_image("lion.jpg"), "red circle\nblue star")
    assert [note for note in label["notes"] if "not look like a drawing of coloured shapes" in note]


def test_labels_come_back_as_they_were(client: Client, red_circle: Path) -> None:
    strange = ["<script>alert(1)</script>", '"quoted" & {braces}', "{}", "🔴 круг", "a\tb", "%s"]
    _, scores = classify(client, red_circle, "\n".join(strange))
    assert set(by_label(scores)) == set(strange)


def test_a_strip_of_twenty_thousand_pixels(client: Client, save: Save) -> None:
    for size in ((20_000, 1), (1, 20_000)):
        strip = save("strip.png", Image.new("RGB", size, "red"))
        _, scores = classify(client, strip, "red circle\nblue star")
        assert sum(row["probability"] for row in scores) == pytest.approx(1.0, abs=1e-6)


def test_rank_by_text(client: Client) -> None:
    files = ["red-circle.png", "yellow-star.png", "three-hearts.png"]
    rows = client.predict(
        query_text="a yellow star",
        candidate_texts="a blue square\na star that is yellow\n\n",
        candidate_images=[handle_file(EXAMPLES / name) for name in files],
        api_name="/rank_similarity",
    )
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    cosines = [row["cosine"] for row in rows]
    assert cosines == sorted(cosines, reverse=True)
    images = [row["candidate"] for row in rows if row["kind"] == "image"]
    assert images[0] == "yellow-star.png"
    texts = [row["candidate"] for row in rows if row["kind"] == "text"]
    assert texts == ["a star that is yellow", "a blue square"]


def test_rank_by_image(client: Client) -> None:
    rows = client.predict(
        query_image=handle_file(EXAMPLES / "red-circle.png"),
        candidate_texts="a red circle\na green cross",
        candidate_images=[handle_file(EXAMPLES / n) for n in ("yellow-star.png", "red-circle.png")],
        api_name="/rank_similarity",
    )
    assert rows[0]["candidate"] == "red-circle.png"
    assert (rows[0]["kind"], rows[0]["verdict"]) == ("image", "match")
    assert rows[0]["cosine"] == pytest.approx(1.0, abs=1e-5)
    texts = {row["candidate"]: row for row in rows if row["kind"] == "text"}
    assert texts["a red circle"]["cosine"] > texts["a green cross"]["cosine"]
    assert texts["a green cross"]["verdict"] == "no match"


def test_a_broken_candidate_costs_only_itself(client: Client, save: Save) -> None:
    broken = save("holiday.png", b"this is no picture")
    good = [handle_file(EXAMPLES / name) for name in ("red-circle.png", "yellow-star.png")]
    rows = client.predict(
        query_text="a yellow star",
        candidate_images=[good[0], handle_file(broken), good[1]],
        api_name="/rank_similarity",
    )
    names = [row["candidate"] for row in rows]
    assert names == ["yellow-star.png", "red-circle.png", "holiday.png"]
    assert rows[2]["cosine"] is None
    assert "holiday.png" in rows[2]["note"]
    without = client.predict(
        query_text="a yellow star", candidate_images=good, api_name="/rank_similarity"
    )
    assert [row["cosine"] for row in rows[:2]] == pytest.approx(
        [row["cosine"] for row in without], abs=1e-5
    )


def test_embed_texts_keeps_order_and_duplicates(client: Client) -> None:
    texts = ["red circle", "blue star", "red circle", "a ring"]
    result = client.predict(texts="\n".join(texts), api_name="/embed_texts")
    vectors = result["embeddings"]
    assert result["model"] == "demo-clip"
    assert result["errors"] == []
    assert [len(vector) for vector in vectors] == [result["dim"]] * 4
    for vector in vectors:
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-4)
    assert vectors[0] == vectors[2]
    assert vectors[0] != vectors[1]
    (alone,) = client.predict(texts="blue star", api_name="/embed_texts")["embeddings"]
    assert vectors[1] == pytest.approx(alone, abs=1e-5)


def test_each_line_has_its_own_place_among_the_vectors(client: Client) -> None:
    odd = "\u2028\x85\f\v\x1e"
    lines = ["red circle", "", *(f"blue{char}star" for char in odd), "  ", "a ring"]
    result = client.predict(texts="\r\n".join(lines), api_name="/embed_texts")
    vectors = result["embeddings"]
    blank = [index for index, line in enumerate(lines) if not line.strip()]
    assert len(vectors) == len(lines)
    assert [index for index, vector in enumerate(vectors) if vector is None] == blank
    assert [error["file"] for error in result["errors"]] == [f"line {i + 1}" for i in blank]
    assert "Line 2 is blank" in result["errors"][0]["error"]
    for index in (0, len(lines) - 1):
        (alone,) = client.predict(texts=lines[index], api_name="/embed_texts")["embeddings"]
        assert vectors[index] == pytest.approx(alone, abs=1e-5)


def test_embed_images_with_one_bad_file(client: Client, save: Save) -> None:
    bad = save("broken.jpg", b"\xff\xd8\xff\xe0 and no more")
    files = [EXAMPLES / "red-circle.png", bad, EXAMPLES / "yellow-star.png"]
    result = client.predict(images=[handle_file(f) for f in files], api_name="/embed_images")
    first, missing, last = result["embeddings"]
    assert missing is None
    assert [error["file"] for error in result["errors"]] == ["broken.jpg"]
    assert "broken.jpg" in result["errors"][0]["error"]
    assert len(first) == len(last) == result["dim"]
    assert math.hypot(*first) == pytest.approx(1.0, abs=1e-4)
    assert first != last


def test_embeddings_agree_with_the_cosine(client: Client, red_circle: Path) -> None:
    (text,) = client.predict(texts="red circle", api_name="/embed_texts")["embeddings"]
    (image,) = client.predict(images=[handle_file(red_circle)], api_name="/embed_images")[
        "embeddings"
    ]
    _, scores = classify(client, red_circle, "red circle")
    product = sum(a * b for a, b in zip(text, image, strict=True))
    assert product == pytest.approx(scores[0]["cosine"], abs=1e-4)


def test_list_models_tells_the_catalogue(client: Client) -> None:
    rows = client.predict(api_name="/list_models")
    assert [row["key"] for row in rows] == [spec.key for spec in MODELS]
    for row, spec in zip(rows, MODELS, strict=True):
        assert (row["family"], row["repo"], row["revision"]) == (
            spec.family,
            spec.repo,
            spec.revision,
        )
        assert (row["licence"], row["memory_gb"]) == (spec.licence, spec.memory_gb)
        assert row["demo"] is spec.demo
        assert row["on_disk"] is (BUNDLE / spec.key).is_dir(), "no real weights are in reach here"


def test_the_default_model_can_be_named(client: Client, red_circle: Path) -> None:
    named = classify(client, red_circle, "red circle\nblue star", model="demo-clip")
    assert named == classify(client, red_circle, "red circle\nblue star")


def test_a_second_request_for_a_picture_of_another_name(client: Client, save: Save) -> None:
    """Vectors are kept by content: neither the name nor an earlier file of that name counts."""
    red = classify(client, save("a.png", draw_circle("#e4202c")), "red circle\nblue circle")
    blue = classify(client, save("a.png", draw_circle("#1c4ed8")), "red circle\nblue circle")
    again = classify(client, save("b.png", draw_circle("#e4202c")), "red circle\nblue circle")
    assert red[0]["label"] == "red circle"
    assert blue[0]["label"] == "blue circle"
    assert again == red
