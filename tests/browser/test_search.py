"""The Search tab, as a person uses it."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.browsing import (
    at_both_widths,
    close_toast,
    open_page,
    open_tab,
    press,
    rows,
    toast,
)
from tests.browser.conftest import Visit
from tests.browser.contrast import contrasts
from tests.browser.test_accessibility import grave_findings, unfold
from tests.support.app_process import ROOT, RunningApp

Save = Callable[..., Path]

EXAMPLES = ROOT / "assets" / "examples"
FILES = ("red-circle.png", "yellow-star.png", "three-hearts.png", "three-shapes.mp4")


def enter(visit: Visit, width: int = 1280, theme: str = "light", locale: str = "en-GB") -> Page:
    page = visit(width, theme, locale)
    open_tab(page, "搜索" if locale == "zh-CN" else "Search")
    return page


def give(page: Page, *files: Path) -> None:
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(list(files))
    expect(page.locator(".file-preview:visible .file")).to_have_count(len(files))


def holding(page: Page) -> Locator:
    return page.locator(".holding:visible")


def add(page: Page, *names: str) -> None:
    give(page, *(EXAMPLES / name for name in names))
    press(page, "Add to index")
    expect(page.locator(".batch-progress.done:visible")).to_contain_text(re.compile(r"\d+ \w+"))


def look_for(page: Page, text: str) -> None:
    page.get_by_label("Look for").fill(text)
    press(page, "Search")


@at_both_widths
def test_files_are_added_found_and_opened(visit: Visit, width: int) -> None:
    page = enter(visit, width)
    expect(holding(page)).to_contain_text("empty")
    add(page, *FILES)
    expect(holding(page)).to_contain_text("Pictures: 3 · Videos: 1")
    expect(page.locator(".batch-progress.done:visible")).to_contain_text("4 added")

    look_for(page, "a yellow star")
    expect(rows(page).first.locator(".name")).to_contain_text("yellow-star.png")
    expect(rows(page).first.locator(".pill")).to_have_text("match")
    expect(page.locator(".demo-badge:visible")).to_be_visible()
    found = page.locator(".frames:visible button:has(img)")
    expect(found).to_have_count(rows(page).count())
    with page.expect_download() as download:
        press(page, "CSV")
    head, best, *_ = csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8")))
    assert head[:3] == ["rank", "file", "kind"] and best[1] == "yellow-star.png"


@at_both_widths
def test_a_video_opens_at_its_moment(visit: Visit, width: int) -> None:
    page = enter(visit, width)
    add(page, "three-shapes.mp4", "red-circle.png")
    look_for(page, "a heart")
    moments = page.locator(".frames:visible button:has(img)", has_text=re.compile(r"\d:\d\d\.\d"))
    expect(moments.first).to_be_visible()
    for index in range(moments.count()):
        said = re.search(r"(\d+):(\d+\.\d)", moments.nth(index).inner_text())
        assert said is not None
        wanted = 60 * int(said[1]) + float(said[2])
        moments.nth(index).click()
        video = page.locator(".player:visible video")
        expect(video).to_be_visible()
        page.wait_for_function(
            "([video, wanted]) => Math.abs(video.currentTime - wanted) < 0.6",
            arg=[video.element_handle(), wanted],
        )


def test_the_examples_are_taken_at_a_click(visit: Visit) -> None:
    page = enter(visit)
    press(page, "Use examples")
    expect(rows(page).first.locator(".name")).to_contain_text("red-circle.png")
    expect(rows(page).first.locator(".pill")).to_have_text("match")
    expect(holding(page)).to_contain_text("Pictures: 11")
    expect(page.get_by_role("button", name="Stop adding")).to_be_hidden()


def test_words_and_a_picture(visit: Visit) -> None:
    page = enter(visit)
    add(page, *FILES)
    page.get_by_role("button", name="Like this picture").click()
    image = page.locator("[role=tabpanel]:visible input[type=file][accept*='image']")
    expect(image).to_have_count(1)
    image.set_input_files(EXAMPLES / "red-circle.png")
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    press(page, "Search")
    expect(rows(page).first.locator(".name")).to_contain_text("red-circle.png")
    page.get_by_label("Look for").fill("a yellow star")
    press(page, "Search")
    expect(rows(page).first.locator("td").last).to_have_text("–")  # no verdict on both


def test_files_added_again_are_known_and_bad_ones_are_named(visit: Visit, save: Save) -> None:
    page = enter(visit)
    add(page, "red-circle.png")
    page.get_by_role("button", name="Clear", exact=True).first.click()
    give(page, EXAMPLES / "red-circle.png", save("bad.png", b"no picture"))
    press(page, "Add to index")
    done = page.locator(".batch-progress.done:visible")
    expect(done).to_contain_text("1 were there")
    expect(done).to_contain_text("1 not readable")
    bad = page.locator(".scores.batch:visible tr.bad")
    expect(bad.locator(".name")).to_have_text("bad.png")
    expect(bad.locator(".said")).to_contain_text("not an image")


def test_an_index_is_there_when_its_visitor_comes_back_and_for_nobody_else(
    browser: Browser, running_app: RunningApp
) -> None:
    first = open_page(browser, running_app.url)
    other = open_page(browser, running_app.url)
    open_tab(first, "Search")
    add(first, "red-circle.png", "yellow-star.png")
    expect(holding(first)).to_contain_text("Pictures: 2")
    first.reload()
    expect(first.get_by_role("button", name="Classify", exact=True)).to_be_visible()
    open_tab(first, "Search")
    expect(holding(first)).to_contain_text("Pictures: 2")
    look_for(first, "a red circle")
    expect(rows(first).first.locator(".name")).to_contain_text("red-circle.png")
    open_tab(other, "Search")
    expect(holding(other)).to_contain_text("empty")
    look_for(other, "a red circle")
    expect(toast(other)).to_contain_text("Nothing is indexed here")
    for page in (first, other):
        page.context.close()


def test_files_are_deleted(visit: Visit) -> None:
    page = enter(visit)
    add(page, *FILES)
    page.get_by_role("button", name="Delete from the index").click()
    names = page.get_by_label("Files in the index")
    names.click()
    page.get_by_role("option", name="yellow-star.png").click()
    page.keyboard.press("Escape")
    press(page, "Delete these")
    expect(holding(page)).to_contain_text("Pictures: 2 · Videos: 1")
    look_for(page, "a yellow star")
    expect(rows(page).first).to_be_visible()
    assert "yellow-star.png" not in rows(page).all_inner_texts()[0]
    press(page, "Delete the whole index")
    expect(holding(page)).to_contain_text("empty")
    press(page, "Search")
    expect(toast(page)).to_contain_text("Nothing is indexed here")


def test_adding_is_stopped_and_taken_up(visit: Visit, save: Save) -> None:
    from tests.conftest import draw_circle

    page = enter(visit)
    give(page, *(save(f"{n}.png", draw_circle(f"#{n:02x}40c0", 512)) for n in range(200)))
    press(page, "Add to index")
    expect(page.locator(".batch-progress.running:visible")).to_contain_text("of 200")
    press(page, "Stop adding")
    expect(page.get_by_role("button", name="Stop adding")).to_be_hidden()
    expect(page.locator(".batch-progress:visible")).to_have_count(0)
    assert "Pictures: 200" not in holding(page).inner_text()
    press(page, "Add to index")
    expect(holding(page)).to_contain_text("Pictures: 200")


def test_what_is_missing_is_told(visit: Visit) -> None:
    page = enter(visit)
    press(page, "Add to index")
    expect(toast(page)).to_contain_text("No files were given")
    close_toast(page)
    expect(page.get_by_role("button", name="Add to index")).to_be_visible()
    press(page, "Search")
    expect(toast(page)).to_contain_text("The query is empty")
    close_toast(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_can_be_read_and_axe_finds_nothing_grave(visit: Visit, theme: str) -> None:
    page = enter(visit, theme=theme)
    unfold(page)
    before = grave_findings(page)
    press(page, "Use examples")
    expect(rows(page).first.locator(".pill")).to_be_visible()
    selectors = [".scores td", ".scores th", ".pill", ".holding b", ".holding span"]
    seen = {selector: contrasts(page, selector) for selector in selectors}
    assert all(seen.values()), "each kind must be on the page"
    weak = {text: ratio for found in seen.values() for text, ratio in found.items() if ratio < 4.5}
    assert weak == {}
    assert (before, grave_findings(page)) == ([], [])


def test_in_chinese(visit: Visit) -> None:
    page = enter(visit, locale="zh-CN")
    expect(holding(page)).to_contain_text("您的索引是空的")
    press(page, "使用示例")
    expect(rows(page).first.locator(".pill")).to_have_text("匹配")
    expect(holding(page)).to_contain_text("图片：11")
