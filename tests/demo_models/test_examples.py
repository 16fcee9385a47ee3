"""The example pictures are what their list says, and the script draws them again."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo_models.evaluation.localisation import occlusion_map
from demo_models.make_example_folders import FOLDERS, NUM_EACH, PICTURE_PX, make_zip
from demo_models.make_examples import MAX_BYTES, WISHES, draw_example

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
    wish = WISHES[0]
    image, entry = draw_example(ENTRIES[0]["seed"], wish)
    assert entry == ENTRIES[0]
    assert image.tobytes() == Image.open(FOLDER / entry["file"]).convert("RGB").tobytes()


def test_every_example_file_has_its_provenance():
    table = (FOLDER.parent / "README.md").read_text()
    for entry in ENTRIES:
        assert f"`examples/{entry['file']}`" in table


def test_occlusion_map_peaks_where_the_match_comes_from():
    pixels = np.full((64, 64, 3), 255, dtype=np.uint8)
    pixels[40:52, 8:20] = (255, 0, 0)

    def redness(images, text):
        return [float((np.asarray(image)[..., 1] == 0).mean()) for image in images]

    drops = occlusion_map(redness, Image.fromarray(pixels), "red square")
    row, column = divmod(int(drops.argmax()), 64)
    assert drops.shape == (64, 64)
    assert 38 <= row < 54
    assert 6 <= column < 22


def test_the_example_folders_are_drawn_anew_alike():
    bundled = FOLDER / "toy-shop.zip"
    with zipfile.ZipFile(bundled) as ours, zipfile.ZipFile(io.BytesIO(make_zip(31))) as drawn:
        names = ours.namelist()
        assert names == drawn.namelist()
        assert len(names) == NUM_EACH * len(FOLDERS)
        for name in names[::7]:
            pictures = [Image.open(io.BytesIO(file.read(name))) for file in (ours, drawn)]
            assert pictures[0].size == (PICTURE_PX, PICTURE_PX)
            assert pictures[0].tobytes() == pictures[1].tobytes()
    assert bundled.stat().st_size < 250_000
