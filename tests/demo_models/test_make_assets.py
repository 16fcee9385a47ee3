"""The example files are what their lists say, and the command makes them again."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from demo_models.language.video_facts import Actor, Facts
from demo_models.make_assets import (
    FOLDER_IMAGE_PX,
    FOLDER_IMAGES,
    FOLDERS,
    IMAGES,
    MAX_BYTES,
    draw_example,
    make_zip,
    true_answer,
)

FOLDER = Path(__file__).parents[2] / "assets" / "examples"

ENTRIES = json.loads((FOLDER / "examples.json").read_text())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_entry_is_complete_and_its_file_small(entry):
    path = FOLDER / entry["file"]
    assert path.stat().st_size <= MAX_BYTES
    assert max(Image.open(path).size) == 384
    assert set(entry["true_labels"]) < set(entry["labels"])
    assert len(set(entry["labels"])) == len(entry["labels"]) >= 5
    assert entry["captions"]
    assert not set(entry["captions"]) & set(entry["false_captions"])


def test_examples_are_varied():
    assert len(ENTRIES) >= 10
    assert any(entry["never_seen_pair"] for entry in ENTRIES)
    assert {entry["paint"] for entry in ENTRIES} == {"", "tool", "freehand"}
    assert max(len(entry["true_labels"]) for entry in ENTRIES) >= 4


def test_the_script_draws_the_same_picture_again():
    image, entry = draw_example(ENTRIES[0]["seed"], IMAGES[0])
    assert entry == ENTRIES[0]
    assert image.tobytes() == Image.open(FOLDER / entry["file"]).convert("RGB").tobytes()


def test_every_example_file_has_its_provenance():
    table = (FOLDER.parent / "README.md").read_text()
    for entry in ENTRIES:
        assert f"`examples/{entry['file']}`" in table
    for entry in json.loads((FOLDER / "chat_videos.json").read_text("utf-8")):
        assert entry["file"] in table


def test_the_example_folders_are_drawn_alike_again():
    bundled = FOLDER / "toy-shop.zip"
    with zipfile.ZipFile(bundled) as ours, zipfile.ZipFile(io.BytesIO(make_zip(31))) as drawn:
        names = ours.namelist()
        assert names == drawn.namelist()
        assert len(names) == FOLDER_IMAGES * len(FOLDERS)
        for name in names[::7]:
            images = [Image.open(io.BytesIO(file.read(name))) for file in (ours, drawn)]
            assert images[0].size == (FOLDER_IMAGE_PX, FOLDER_IMAGE_PX)
            assert images[0].tobytes() == images[1].tobytes()
    assert bundled.stat().st_size < 250_000


def test_true_answers_come_from_the_facts():
    actors = (
        Actor("circle", "red", ("left",), None, True),
        Actor("star", "blue", (), None, True),
    )
    facts = Facts(actors, ((0, "left"),), "white")
    wanted = ("action of star", "direction of red", "colour of star", "count", "background", "no")
    assert [true_answer(facts, what) for what in wanted] == [
        "it stays still", "left", "blue", "two", "white", "no",
    ]  # fmt: skip
