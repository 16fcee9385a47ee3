"""/evaluate_images and /train_probe, and a probe in /classify_image, as scripts meet them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from safetensors.numpy import load, save

from pipelines.models.linear_probe import read_probe
from tests.components.api.test_image_text_bad_input import assert_clear
from tests.fakes.bad_files import DAMAGED, NOT_IMAGES, bomb
from tests.fakes.labelled_zips import dot, drawn, pack
from tests.models.test_linear_probe import make_probe
from tests.support.app_process import ROOT, RunningApp
from tests.support.raw_http import post, upload

Save = Callable[..., Path]

EXAMPLE = ROOT / "assets" / "examples" / "toy-shop.zip"
STAR = ROOT / "assets" / "examples" / "yellow-star.png"
ACCURACY = ["accuracy", "low", "high", "correct", "total"]
MEASURED = ["top1", "top5", "classes", "confusion"]


def evaluate(client: Client, path: Path, **options: Any) -> tuple[dict[str, Any], list[Any]]:
    archive = handle_file(path)
    summary, rows = client.predict(archive=archive, api_name="/evaluate_images", **options)
    return summary, rows


def train(client: Client, path: Path, **options: Any) -> tuple[dict[str, Any], list[Any], str]:
    archive = handle_file(path)
    summary, rows, file = client.predict(archive=archive, api_name="/train_probe", **options)
    return summary, rows, file


def classify(client: Client, image: Path, labels: str, **options: Any) -> tuple[Any, Any]:
    sent = handle_file(image)
    label, scores = client.predict(image=sent, labels=labels, api_name="/classify_image", **options)
    return label, scores


@pytest.fixture(scope="module")
def probe(client: Client) -> Path:
    return Path(train(client, EXAMPLE)[2])


def test_a_zero_shot_evaluation(client: Client) -> None:
    summary, rows = evaluate(client, EXAMPLE, templates="photo")
    assert list(summary) == ["model", "num_images", "labels", "zero_shot", "errors", "notes"]
    measured = summary["zero_shot"]
    assert list(measured) == MEASURED
    assert list(measured["top1"]) == list(measured["top5"]) == ACCURACY
    assert summary["num_images"] == len(rows) == measured["top1"]["total"] == 96
    assert [list(row) for row in rows] == [["file", "label", "predicted", "probability"]] * 96
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert measured["top1"]["correct"] == right
    assert measured["top1"]["low"] < measured["top1"]["accuracy"] < measured["top1"]["high"]
    assert sum(sum(line) for line in measured["confusion"]) == 96
    assert [row["label"] for row in measured["classes"]] == summary["labels"]
    assert "full stop" in summary["labels"]
    assert summary["errors"] == []


def test_each_picture_is_taken_for_what_classify_image_says(client: Client, save: Save) -> None:
    members = drawn(seed=12, num_each=1)
    summary, rows = evaluate(client, pack(save("a.zip", b""), members), templates="photo")
    for row in rows[::3]:
        image = save("one.png", members[row["file"]])
        label, _ = classify(client, image, "\n".join(summary["labels"]), templates="photo")
        assert label["label"] == row["predicted"]
        best = label["confidences"][0]["confidence"]
        assert row["probability"] == pytest.approx(best, abs=1e-5)


def test_a_probe_beside_zero_shot(client: Client) -> None:
    summary, rows, file = train(client, EXAMPLE, templates="photo", held_out=0.5, seed=3)
    assert list(summary["zero_shot"]) == MEASURED
    facts = ["num_fitted", "num_held_out", "regularisation_c"]
    assert list(summary["probe"]) == [*MEASURED, *facts]
    assert summary["probe"]["num_held_out"] == len(rows) == summary["zero_shot"]["top1"]["total"]
    assert summary["probe"]["num_fitted"] + len(rows) == summary["num_images"] == 96
    assert len(rows) == 48
    by_name = sum(row["label"] == row["zero_shot_predicted"] for row in rows)
    assert summary["zero_shot"]["top1"]["correct"] == by_name
    assert summary["probe"]["top1"]["correct"] == sum(r["label"] == r["predicted"] for r in rows)
    assert summary["probe"]["top1"]["correct"] > by_name + 10
    again = train(client, EXAMPLE, templates="photo", held_out=0.5, seed=3)
    assert again[:2] == (summary, rows)
    assert Path(again[2]).read_bytes() == Path(file).read_bytes()
    assert train(client, EXAMPLE, held_out=0.5, seed=4)[1] != rows


def test_a_picture_classified_by_a_probe(client: Client, probe: Path) -> None:
    sent = handle_file(probe)
    label, scores = classify(client, STAR, "", probe=sent)
    assert label["label"] == "star"
    assert {row["label"] for row in scores} == set(read_probe(probe).labels)
    assert sum(row["probability"] for row in scores) == pytest.approx(1.0, abs=1e-6)
    assert [row["probability"] for row in scores] == sorted(
        (row["probability"] for row in scores), reverse=True
    )
    assert any("come from your probe" in note for note in label["notes"])
    chosen, _ = classify(client, STAR, "", probe=sent, model="demo-clip")
    assert chosen == label
    with_labels, _ = classify(client, STAR, "cat\ndog", probe=sent)
    assert with_labels["confidences"] == label["confidences"]
    assert any("labels were not used" in note for note in with_labels["notes"])


def test_a_raw_request_from_before_there_were_probes(running_app: RunningApp) -> None:
    """It posts a bare list of four arguments."""
    file = {"path": upload(running_app.url, STAR), "meta": {"_type": "gradio.FileData"}}
    for data in ([file, "a star\na heart", "", "demo-clip"], [file, "a star\na heart"]):
        label, _ = post(running_app.url, "classify_image", data)["data"]
        assert label["label"] == "a star"
    assert "lacks an argument" in post(running_app.url, "classify_image", [file])["error"]


def test_bad_files_are_listed(client: Client, running_app: RunningApp, save: Save) -> None:
    bad = {f"toy_shop/star/{name}": make() for name, make in (NOT_IMAGES | DAMAGED).items()}
    bad |= {"toy_shop/star/empty.png": b"", "toy_shop/star/bomb.png": bomb()}
    bad |= {"../../up.png": dot(1), "toy_shop/notes.txt": b"x"}
    good = drawn(seed=13, num_each=1)
    summary, rows = evaluate(client, pack(save("a.zip", b""), good | bad))
    assert [row["file"] for row in rows] == list(good)
    assert len(summary["errors"]) == len(bad)
    for error in summary["errors"]:
        assert_clear(error["error"], running_app)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"1.png": dot(1)}, "folders named after classes"),
        ({"cat/1.png": dot(1), "cat/2.png": dot(2)}, "at least two classes"),
        ({"cat/1.png": b"", "dog/1.png": b""}, "found none"),
        ({"cat/a.txt": b"x"}, "no image in the archive"),
    ],
)
def test_zips_that_cannot_be_used(
    client: Client, running_app: RunningApp, save: Save, members: dict[str, bytes], said: str
) -> None:
    path = pack(save("a.zip", b""), members)
    for ask in (evaluate, train):
        with pytest.raises(AppError, match=said) as refused:
            ask(client, path)
        assert_clear(str(refused.value), running_app)


def test_no_zip_at_all(client: Client, running_app: RunningApp, save: Save) -> None:
    for file in (STAR, save("text.zip", b"hello"), save("empty.zip", b"")):
        with pytest.raises(AppError, match="not a zip, or is damaged") as refused:
            evaluate(client, file)
        assert_clear(str(refused.value), running_app)
    assert "archive" in post(running_app.url, "evaluate_images", [None])["error"]


def test_one_picture_of_each_class(client: Client, save: Save) -> None:
    path = pack(save("a.zip", b""), drawn(num_each=1))
    assert evaluate(client, path)[0]["num_images"] == 8
    with pytest.raises(AppError, match=r"at least 4 pictures .* \(1\), .* and 5 more"):
        train(client, path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"held_out": 0.9}, "held_out must be within"),
        ({"seed": -1}, "seed must be"),
        ({"model": "best"}, "Choose one of"),
        ({"model": "demo-blip2"}, "Choose one of"),
        ({"templates": "no braces"}, "templates must be"),
    ],
)
def test_options_out_of_range(client: Client, options: dict[str, Any], said: str) -> None:
    with pytest.raises(AppError, match=said):
        train(client, EXAMPLE, **options)


def test_files_that_are_no_probe(client: Client, running_app: RunningApp, save: Save) -> None:
    nan = make_probe()
    nan.weight[0, 0] = float("nan")
    files = {
        "text.safetensors": b"hello",
        "nan.safetensors": nan.to_bytes(),
        "tensors.safetensors": save_tensors(),
        "picture.safetensors": STAR.read_bytes(),
    }
    for name, data in files.items():
        with pytest.raises(AppError, match="Expected a probe") as refused:
            classify(client, STAR, "", probe=handle_file(save(name, data)))
        assert_clear(str(refused.value), running_app)


def save_tensors() -> bytes:
    return save(load(make_probe().to_bytes()))


def test_a_probe_of_another_model(client: Client, save: Save) -> None:
    other = save("probe.safetensors", make_probe(model="clip-vit-b32", revision="x").to_bytes())
    with pytest.raises(AppError, match="made with clip-vit-b32, but the model in use is demo-clip"):
        classify(client, STAR, "", probe=handle_file(other), model="demo-clip")
    unknown = save("unknown.safetensors", make_probe(model="no-such").to_bytes())
    with pytest.raises(AppError, match="'no-such', which is not among those here"):
        classify(client, STAR, "", probe=handle_file(unknown))


def test_without_a_probe_labels_are_needed(client: Client) -> None:
    with pytest.raises(AppError, match="labels must hold at least one text"):
        classify(client, STAR, "")


def test_nothing_of_the_server_is_read(running_app: RunningApp) -> None:
    passwd = {"path": "/etc/passwd"}
    star = {"path": upload(running_app.url, STAR), "meta": {"_type": "gradio.FileData"}}
    for name, data in (
        ("evaluate_images", [passwd, "", ""]),
        ("train_probe", [passwd, "", "", 0.25, 0]),
        ("classify_image", [star, "", "", "", passwd]),
    ):
        said = post(running_app.url, name, data)["error"]
        assert "is not a file that was uploaded" in said
        assert "root:" not in said
