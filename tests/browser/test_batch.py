"""The Batch tab, as a person uses it."""

import io
import random
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.browsing import (
    at_both_widths,
    click_example,
    close_toast,
    open_page,
    open_tab,
    press,
    toast,
)
from tests.browser.conftest import Visit
from tests.browser.contrast import contrasts
from tests.browser.test_describe import caption
from tests.conftest import draw_circle
from tests.support.app_process import RunningApp

Save = Callable[..., Path]


#: Pictures that take a run long enough to be paused, but no test long enough to be dull.
MANY = 400


def enter(visit: Visit, width: int = 1280, theme: str = "light") -> Page:
    page = visit(width, theme)
    open_tab(page, "Batch")
    return page


def give(page: Page, *files: Path) -> None:
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(list(files))
    expect(page.locator(".file-preview:visible .file")).to_have_count(len(files))


def progress(page: Page) -> Locator:
    return page.locator(".batch-progress:visible p")


def captions(page: Page) -> Locator:
    return page.locator(".scores.batch:visible tr:has(td):not(.bad)")


def archive(folder: Path, number: int, *others: tuple[str, bytes]) -> Path:
    """Write a zip of small pictures that nobody has captioned before."""
    draw = random.Random(time.time_ns())
    path = folder / "pictures.zip"
    with zipfile.ZipFile(path, "w") as made:
        for index in range(number):
            buffer = io.BytesIO()
            picture = draw_circle("#e4202c", 64)
            picture.putpixel((draw.randrange(64), draw.randrange(64)), (0, 0, draw.randrange(256)))
            picture.putpixel((index % 64, index // 64), (draw.randrange(256), 0, 0))
            picture.save(buffer, "PNG")
            made.writestr(f"{index:04}.png", buffer.getvalue())
        for name, data in others:
            made.writestr(name, data)
    return path


def entries(app: RunningApp) -> int:
    """Return how many results the ledgers of the app hold."""
    ledgers = (app.work_dir / "results" / "ledgers").rglob("*.jsonl")
    return sum(len(ledger.read_bytes().splitlines()) for ledger in ledgers)


@at_both_widths
def test_pictures_are_captioned_and_a_bad_one_is_listed(
    visit: Visit, save: Save, tmp_path: Path, width: int
) -> None:
    page = enter(visit, width)
    bad = tmp_path / "notes.png"
    bad.write_text("not a picture", encoding="utf-8")
    give(page, save("red.png", draw_circle("#e4202c")), bad, save("b.png", draw_circle("#1c4ed8")))
    press(page, "Start")
    expect(progress(page)).to_contain_text("Done: 3 of 3 · 1 without a caption")
    expect(captions(page)).to_have_count(2)
    expect(captions(page).first).to_contain_text("a blue circle on a white background")
    failed = page.locator(".scores.batch:visible tr.bad")
    expect(failed).to_contain_text("'notes.png' is not an image that can be read")
    expect(page.locator(".strip:visible figure")).to_have_count(2)
    with page.expect_download() as download:
        press(page, "Download all (.zip)")
    with zipfile.ZipFile(download.value.path()) as made:
        assert {"captions.csv", "captions.jsonl", "metadata.jsonl"} <= set(made.namelist())
        assert made.read("captions/red.txt").decode() == "a red circle on a white background\n"


def test_a_run_is_paused_resumed_and_cancelled(visit: Visit, tmp_path: Path) -> None:
    page = enter(visit)
    give(page, archive(tmp_path, MANY))
    press(page, "Start")
    expect(progress(page)).to_contain_text(" left")
    press(page, "Pause")
    expect(progress(page)).to_contain_text("Paused: ")
    paused_at = int(re.findall(r"(\d+) of", progress(page).inner_text())[0])
    assert 0 < paused_at < MANY
    expect(page.get_by_role("button", name="Download all (.zip)")).to_be_visible()
    press(page, "Resume")
    expect(progress(page)).to_contain_text(" known already")
    known = int(re.findall(r"(\d+) known", progress(page).inner_text())[0])
    assert paused_at <= known < MANY, "those of the batch in flight are kept too"
    press(page, "Cancel")
    expect(progress(page)).to_contain_text("Cancelled: ")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_disabled()


def test_what_a_zip_holds_besides_pictures_is_named(visit: Visit, tmp_path: Path) -> None:
    page = enter(visit)
    give(page, archive(tmp_path, 2, ("read me.txt", b"hello"), ("../out.png", b"x")))
    press(page, "Start")
    expect(progress(page)).to_contain_text("Done: 3 of 3 · 1 without a caption")
    expect(page.get_by_text("Left out of the zip:")).to_contain_text("read me.txt")
    expect(page.locator(".scores.batch:visible tr.bad")).to_contain_text("out.png")


def test_the_example_pictures(visit: Visit) -> None:
    page = enter(visit)
    press(page, "Take the example pictures")
    expect(page.locator(".file-preview:visible .file")).not_to_have_count(0)
    press(page, "Start")
    expect(progress(page)).to_contain_text("Done: ")
    expect(captions(page).filter(has_text="red circle")).not_to_have_count(0)


@at_both_widths
def test_mistakes_are_told_and_cost_nothing(visit: Visit, tmp_path: Path, width: int) -> None:
    page = enter(visit, width)
    press(page, "Start")
    expect(toast(page)).to_contain_text("No files were given")
    close_toast(page)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 not really")
    give(page, broken)
    press(page, "Start")
    expect(toast(page)).to_contain_text("is not a zip, or is damaged")
    close_toast(page)
    press(page, "Take the example pictures")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


def test_a_visitor_with_one_question_comes_first(visit: Visit, tmp_path: Path) -> None:
    """A batch gives the device away between its batches."""
    other, busy = visit(), enter(visit)
    open_tab(other, "Describe")
    give(busy, archive(tmp_path, 2 * MANY))
    press(busy, "Start")
    expect(progress(busy)).to_contain_text(" left")
    click_example(other, 0)
    expect(caption(other)).to_have_value("a red circle on a white background")
    expect(busy.get_by_role("button", name="Pause", exact=True)).to_be_enabled()
    assert progress(busy).inner_text().endswith("left")


def test_closing_the_page_ends_the_run(
    browser: Browser, tmp_path: Path, running_app: RunningApp
) -> None:
    page = open_page(browser, running_app.url)
    page.wait_for_function("localStorage.getItem('seesay-batch')")  # whose run it is
    back = page.context.new_page()  # only the same browser finds its run again
    open_tab(page, "Batch")
    give(page, archive(tmp_path, MANY))
    press(page, "Start")
    expect(progress(page)).to_contain_text(" left")
    page.close()
    done = -1
    while done != (done := entries(running_app)):  # until nobody writes any more
        time.sleep(3.0)
    back.goto(running_app.url)
    expect(back.locator(".model-hint:visible p")).not_to_be_empty()
    open_tab(back, "Batch")
    give(back, tmp_path / "pictures.zip")
    press(back, "Start")
    expect(progress(back)).to_contain_text(f"Done: {MANY} of {MANY}")
    known = int(re.findall(r"(\d+) known", progress(back).inner_text())[0])
    assert 0 < known < MANY, "the run went on after its visitor had left"
    back.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read(visit: Visit, save: Save, tmp_path: Path, theme: str) -> None:
    page = enter(visit, theme=theme)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    give(page, tmp_path / "a.png", bad)
    press(page, "Start")
    expect(progress(page)).to_contain_text("Done: 2 of 2")
    for selector in (".batch-progress p", ".scores.batch td", ".strip figcaption", ".strip small"):
        seen = contrasts(page, selector)
        assert seen, selector
        assert min(seen.values()) >= 4.5, seen
