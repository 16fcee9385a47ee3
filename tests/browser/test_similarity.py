"""The Similarity tab, as a person uses it."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.browsing import (
    at_both_widths,
    choose_model,
    click_example,
    close_toast,
    open_tab,
    press,
    rows,
    toast,
)
from tests.browser.conftest import Visit
from tests.browser.contrast import contrasts
from tests.conftest import draw_circle

Save = Callable[..., Path]

MATRIX = "Matrix: all texts × all pictures"
EMBEDDINGS = "Embeddings as a file (.npz)"


def enter(visit: Visit, width: int = 1280, theme: str = "light") -> Page:
    page = visit(width, theme)
    open_tab(page, "Similarity")
    return page


def compare_with(page: Page, *files: Path) -> None:
    """Upload pictures to compare with, and wait until they are listed."""
    page.locator("input[type=file][multiple]").set_input_files(list(files))
    for file in files:
        expect(page.get_by_role("row", name=file.name)).to_be_visible()


@at_both_widths
def test_an_example_gives_gallery_table_and_csv(visit: Visit, width: int) -> None:
    page = enter(visit, width)
    click_example(page, 0)
    expect(rows(page)).to_have_count(11)
    expect(rows(page).first.locator(".name")).to_have_text("red-circle.png")
    expect(rows(page).first.locator(".pill")).to_have_text("match")
    pictures = page.locator(".ranked button.thumbnail-item, .ranked .grid-container button")
    expect(pictures).to_have_count(8)
    expect(pictures.first).to_contain_text("1 · match")
    expect(page.locator(".demo-badge:visible")).to_contain_text("coloured shapes only")
    with page.expect_download() as download:
        press(page, "Download as CSV")
    head, *lines = csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8")))
    assert head == ["rank", "candidate", "kind", "cosine", "verdict", "note"]
    assert [line[1] for line in lines] == rows(page).locator(".name").all_inner_texts()


@at_both_widths
def test_texts_are_ranked_by_a_text(visit: Visit, width: int) -> None:
    page = enter(visit, width)
    page.get_by_label("Query: a text").fill("a red circle")
    page.get_by_label("Compare with texts").fill("a blue square\na circle that is red\na star")
    page.get_by_label("Query: a text").press("Enter")
    expect(rows(page)).to_have_count(3)
    expect(rows(page).first).to_contain_text("a circle that is red")
    expect(page.locator(".ranked")).not_to_be_visible()


def test_a_matrix_of_texts_and_pictures(visit: Visit, save: Save) -> None:
    page = enter(visit, 390)
    page.get_by_label("Compare with texts").fill("a red circle\na blue circle\na star")
    red, blue = save("red.png", draw_circle()), save("blue.png", draw_circle("#1c4ed8"))
    compare_with(page, red, blue)
    press(page, MATRIX)
    cells = page.locator(".matrix:visible td.cell")
    expect(cells).to_have_count(6)
    values = [float(text) for text in cells.all_inner_texts()]
    assert values[0] > values[1], "the red picture fits 'a red circle' better"
    assert values[3] > values[2], "the blue picture fits 'a blue circle' better"
    expect(cells.first).to_have_attribute("title", "match")
    with page.expect_download() as download:
        press(page, "Download as CSV")
    lines = list(csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert [line[0] for line in lines] == ["", "a red circle", "a blue circle", "a star"]
    assert lines[0][1:] == ["red.png", "blue.png"]


def test_embeddings_are_a_file(visit: Visit, save: Save) -> None:
    page = enter(visit)
    page.get_by_label("Query: a text").fill("a red circle")
    page.get_by_label("Compare with texts").fill("a star")
    compare_with(page, save("red.png", draw_circle()))
    press(page, EMBEDDINGS)
    with page.expect_download() as download:
        press(page, "Download embeddings.npz")
    assert download.value.suggested_filename == "embeddings.npz"
    file = np.load(download.value.path(), allow_pickle=False)
    assert file["names"].tolist() == ["a red circle", "a star", "red.png"]
    assert file["embeddings"].shape[0] == 3
    for vector in file["embeddings"]:
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-4)
    assert file["model"].item() == "demo-clip"
    expect(page.locator(".demo-badge:visible")).to_be_visible()


def test_a_picture_is_the_query(visit: Visit, save: Save) -> None:
    page = enter(visit)
    red, blue = save("red.png", draw_circle()), save("blue.png", draw_circle("#1c4ed8"))
    page.get_by_text("… or a picture as the query").click()
    picker = page.locator("input[type=file]:not([multiple])")
    expect(picker).to_have_count(2)  # the other tab's, and the one that has just been opened
    picker.last.set_input_files(blue)
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    compare_with(page, red, blue)
    page.get_by_label("Compare with texts").fill("a red circle\na blue circle")
    press(page, "Rank")
    expect(rows(page)).to_have_count(4)
    expect(rows(page).first.locator(".name")).to_have_text("blue.png")
    names = rows(page).locator(".name").all_inner_texts()
    assert names.index("a blue circle") < names.index("a red circle")


@at_both_widths
def test_mistakes_are_told_and_cost_nothing(visit: Visit, save: Save, width: int) -> None:
    page = enter(visit, width)
    for name, told in (
        ("Rank", "The query is missing"),
        (MATRIX, "nothing to compare"),
        (EMBEDDINGS, "nothing to compare"),
    ):
        press(page, name)
        expect(toast(page)).to_contain_text(told)
        close_toast(page)
    page.get_by_label("Query: a text").fill("a red circle")
    press(page, "Rank")
    expect(toast(page)).to_contain_text("nothing to compare with")
    close_toast(page)
    compare_with(page, save("red.png", draw_circle()), save("broken.png", b"no image"))
    press(page, "Rank")
    expect(rows(page)).to_have_count(2)
    expect(rows(page).first).to_contain_text("red.png")
    expect(rows(page).last).to_contain_text("not an image")


def test_a_model_out_of_reach_is_told_and_left_again(visit: Visit) -> None:
    page = enter(visit)
    choose_model(page, "CLIP ViT-B/32")
    click_example(page, 0)
    expect(toast(page)).to_contain_text("HF_ENDPOINT")
    close_toast(page)
    choose_model(page, "Demo: drawn shapes only")
    click_example(page, 1)
    expect(rows(page).locator(".name", has_text="yellow-star.png")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out(visit: Visit, theme: str) -> None:
    page = enter(visit, theme=theme)
    click_example(page, 0)
    expect(rows(page)).to_have_count(11)
    selectors = [
        ".scores td",
        ".scores th",
        ".pill",
        ".demo-badge summary",
        ".ranked .caption-label",
    ]
    seen = {selector: contrasts(page, selector) for selector in selectors}
    press(page, MATRIX)
    expect(page.locator(".matrix td.cell").first).to_be_visible()
    seen |= {selector: contrasts(page, selector) for selector in (".matrix td", ".matrix th span")}
    assert all(seen.values()), "each kind must be on the page"
    weak = {
        f"{kind} {text!r}": round(ratio, 2)
        for kind, found in seen.items()
        for text, ratio in found.items()
        if ratio < 4.5
    }
    assert weak == {}
