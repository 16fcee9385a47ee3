"""The Classify tab, as a person uses it."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.browsing import (
    at_both_widths,
    choose_model,
    click_example,
    close_toast,
    draw_disc,
    open_tab,
    press,
    rows,
    toast,
    upload_picture,
)
from tests.browser.conftest import Visit
from tests.browser.contrast import contrasts
from tests.conftest import draw_circle

Save = Callable[..., Path]


def classify(page: Page, labels: str) -> Locator:
    """Ask for labels; returns the rows of the answer, best first."""
    page.get_by_label("Labels").fill(labels)
    press(page, "Classify")
    return rows(page)


def show_where(page: Page) -> Locator:
    """Switch the overlay on; returns its picture."""
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Show where the model looks for a label").check()
    return overlay(page)


def overlay(page: Page) -> Locator:
    return page.locator(".block", has_text="Where the model looks").locator("img").last


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.smoke), 390])
def test_a_picture_is_uploaded_and_answered(visit: Visit, red_circle: Path, width: int) -> None:
    page = visit(width)
    upload_picture(page, red_circle)
    found = classify(page, "blue star\nred circle\ngreen square, small")
    expect(found).to_have_count(3)
    expect(found.first.locator(".name")).to_have_text("red circle")
    expect(found.first.locator(".pill")).to_have_text("match")
    expect(found.last.locator(".pill")).to_have_text("no match")
    expect(page.locator(".demo-badge")).to_be_visible()
    expect(page.locator(".demo-badge")).to_contain_text("coloured shapes only")
    with page.expect_download() as download:
        press(page, "Download as CSV")
    assert download.value.suggested_filename == "scores.csv"
    head, *lines = csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8")))
    assert head == ["label", "probability", "cosine", "verdict", "note"]
    assert [line[0] for line in lines] == found.locator(".name").all_inner_texts()
    assert [line[3] for line in lines] == found.locator(".pill").all_inner_texts()


@at_both_widths
def test_no_verdict_is_cut_off(visit: Visit, red_circle: Path, width: int) -> None:
    page = visit(width)
    upload_picture(page, red_circle)
    expect(classify(page, "red circle\na very small purple triangle\nblue star")).to_have_count(3)
    table = page.locator(".scores").bounding_box()
    assert table is not None
    for pill in page.locator(".pill").all():
        box = pill.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= table["x"] + table["width"]


@at_both_widths
def test_mistakes_are_told_and_cost_nothing(visit: Visit, red_circle: Path, width: int) -> None:
    page = visit(width)
    press(page, "Classify")
    expect(toast(page)).to_have_text("The picture is missing. Upload or choose a file.")
    close_toast(page)
    upload_picture(page, red_circle)
    press(page, "Classify")
    expect(toast(page)).to_contain_text("labels must hold at least one text")
    close_toast(page)
    expect(classify(page, "red circle, blue star").first).to_contain_text("red circle")
    classify(page, " , ")
    expect(toast(page)).to_contain_text("labels must hold at least one text")
    expect(rows(page)).to_have_count(2)


def test_an_empty_canvas_is_told(visit: Visit) -> None:
    page = visit()
    open_tab(page, "Draw")
    page.get_by_label("Labels").fill("red circle")
    press(page, "Classify")
    expect(toast(page)).to_contain_text("drawing")


def test_what_is_no_picture_is_told(visit: Visit, save: Save, red_circle: Path) -> None:
    """Gradio opens the file before the handler; its refusal once ended in silence."""
    page = visit()
    upload_picture(page, save("text.png", b"hello, this is text"))
    classify(page, "red circle")
    expect(toast(page)).to_contain_text("not an image that can be read")
    close_toast(page)
    press(page, "Remove Image")
    upload_picture(page, red_circle)
    expect(classify(page, "red circle").first).to_contain_text("red circle")


@at_both_widths
def test_an_example_answers_and_shows_where(visit: Visit, width: int) -> None:
    page = visit(width)
    click_example(page, 1)
    expect(rows(page).first.locator(".name")).to_have_text("yellow star")
    expect(rows(page).first.locator(".pill")).to_have_text("match")
    assert "yellow star" in page.get_by_label("Labels").input_value()
    expect(page.locator(".demo-badge")).to_be_visible()
    picture = show_where(page)
    expect(picture).to_be_visible()
    assert picture.evaluate("async image => (await image.decode(), image.naturalWidth)") > 50
    before = str(picture.get_attribute("src"))
    second = rows(page).nth(1).locator(".name").inner_text()
    page.get_by_role("combobox", name="Where does it look for").click()
    page.get_by_role("option", name=second).click()
    expect(overlay(page)).not_to_have_attribute("src", before)


def test_where_is_shown_once_there_is_an_answer(visit: Visit) -> None:
    """Wanted before, it opened an empty list over an empty picture."""
    page = visit()
    where = page.get_by_role("combobox", name="Where does it look for")
    page.get_by_text("Options", exact=True).click()
    wanted = page.get_by_label("Show where the model looks for a label")
    wanted.check()
    page.wait_for_timeout(1500)
    expect(where).to_be_hidden()
    click_example(page, 0)
    expect(where).to_have_value("red circle")
    expect(overlay(page)).to_be_visible()
    wanted.uncheck()
    expect(where).to_be_hidden()
    wanted.check()
    expect(overlay(page)).to_be_visible()


def test_another_question_moves_the_overlay_along(visit: Visit) -> None:
    page = visit()
    show_where_of = page.get_by_role("combobox", name="Where does it look for")
    click_example(page, 0)
    expect(rows(page).first).to_contain_text("red circle")
    picture = show_where(page)
    expect(picture).to_be_visible()
    before = str(picture.get_attribute("src"))
    click_example(page, 1)
    expect(rows(page).first).to_contain_text("yellow star")
    expect(show_where_of).to_have_value("yellow star")
    expect(overlay(page)).not_to_have_attribute("src", before)


@at_both_widths
def test_a_drawing_is_answered_and_the_picture_kept(visit: Visit, save: Save, width: int) -> None:
    page = visit(width)
    upload_picture(page, save("blue.png", draw_circle("#1c4ed8")))
    labels = "blue circle\ngreen square\nred circle\nyellow cross"
    expect(classify(page, labels).first).to_contain_text("blue circle")
    open_tab(page, "Draw")
    draw_disc(page)
    press(page, "Classify")
    expect(rows(page).first.locator(".name")).to_have_text("red circle")
    expect(rows(page).first.locator(".pill")).to_have_text("match")
    open_tab(page, "Picture")
    press(page, "Classify")
    expect(rows(page).first.locator(".name")).to_have_text("blue circle")


def test_a_model_out_of_reach_is_told_and_left_again(visit: Visit) -> None:
    page = visit()
    click_example(page, 0)
    expect(rows(page).first).to_contain_text("red circle")
    choose_model(page, "CLIP ViT-B/32")
    expect(page.locator(".model-hint:visible p")).to_contain_text("0.6 GB, downloaded on first use")
    expect(page.locator("button.gallery-item:visible")).to_have_count(4)
    press(page, "Classify")
    expect(toast(page)).to_contain_text("HF_ENDPOINT")
    expect(toast(page)).to_contain_text("--models-dir")
    close_toast(page)
    choose_model(page, "Demo: drawn shapes only")
    click_example(page, 1)
    expect(rows(page).first).to_contain_text("yellow star")


def test_labels_stay_text(visit: Visit, red_circle: Path) -> None:
    page = visit()
    upload_picture(page, red_circle)
    nasty = "<img src=x onerror='document.title=1'><b>bold</b>"
    expect(classify(page, f"{nasty}\nred circle")).to_have_count(2)
    expect(page.locator(".scores .name", has_text=nasty)).to_be_visible()
    assert page.locator(".scores img, .chart img").count() == 0
    assert page.title() == "SeeSay"


def test_a_long_list_is_cut_on_the_page_and_whole_in_the_file(
    visit: Visit, red_circle: Path
) -> None:
    page = visit(390)
    upload_picture(page, red_circle)
    labels = "\n".join(f"thing number {index}" for index in range(150))
    expect(classify(page, labels)).to_have_count(100)
    expect(page.locator(".more:visible")).to_contain_text("100 of 150")
    with page.expect_download() as download:
        press(page, "Download as CSV")
    lines = Path(download.value.path()).read_text("utf-8").splitlines()
    assert len(lines) == 151


def test_what_the_picture_is_not_is_said(visit: Visit, red_circle: Path) -> None:
    page = visit()
    upload_picture(page, red_circle)
    expect(classify(page, "blue star")).to_have_count(1)
    expect(rows(page).first).to_contain_text("100.0 %")
    expect(page.locator("p.note")).to_contain_text(["None of these labels fits the picture"])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out(visit: Visit, save: Save, theme: str) -> None:
    """WCAG AA wants 4.5 for texts of this size."""
    page = visit(theme=theme)
    dark = page.evaluate("document.body.classList.contains('dark')")
    assert dark == (theme == "dark")
    seen = {selector: contrasts(page, selector) for selector in (".empty", "button.primary")}
    upload_picture(page, save("a.png", draw_circle("#1c4ed8")))
    labels = "blue circle\npurple circle\nred star\n蓝色圆形\n" + "blue circle " * 30
    expect(classify(page, labels)).to_have_count(5)
    seen |= {
        selector: contrasts(page, selector)
        for selector in (
            ".scores td",
            ".scores th",
            ".scores small",
            ".pill",
            ".demo-badge summary",
            "p.note",
            ".model-hint p",
            "#masthead p",
        )
    }
    assert all(seen.values()), "each kind must be on the page"
    weak = {
        f"{kind} {text!r}": round(ratio, 2)
        for kind, found in seen.items()
        for text, ratio in found.items()
        if ratio < 4.5
    }
    assert weak == {}
