"""A headless Chromium that reaches this machine only, and the steps that a visitor takes."""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

#: Chromium as systems call it; where there is none, Playwright's own is taken.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP localhost. 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, "
    "EXCLUDE localhost, EXCLUDE *.localhost",
]

#: Milliseconds after which something that a person waits for counts as not coming.
HANG_MS = 60_000

#: Milliseconds after the first answers in which Gradio may lose a press; see docs/architecture.md.
SETTLE_MS = 500

expect.set_options(timeout=HANG_MS)

#: For tests of a page on a screen and on a phone.
at_both_widths = pytest.mark.parametrize("width", [1280, 390])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium for the length of the block."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    theme: str = "light",
    prepare: Callable[[Page], None] = lambda page: None,
    locale: str = "en-GB",
) -> Page:
    """Open the app in a new visitor's window and wait until it can be used.

    `prepare` sees the window before anything is loaded into it.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, locale=locale)
    context.set_default_timeout(HANG_MS)
    page = context.new_page()
    prepare(page)
    page.goto(f"{url.rstrip('/')}/?__theme={theme}")
    classify = "分类" if locale.startswith("zh") else "Classify"
    expect(page.get_by_role("button", name=classify, exact=True)).to_be_visible()
    expect(page.locator(".model-hint:visible p")).not_to_be_empty()
    page.wait_for_timeout(SETTLE_MS)
    return page


def open_tab(page: Page, name: str) -> None:
    """Open a tab; on a narrow page those that do not fit lie behind "More tabs"."""
    tab = page.get_by_role("tab", name=name, exact=True).last  # for moments a copy is before it
    if not tab.is_visible():
        more = page.locator(".overflow-menu:visible", has=page.get_by_label("More tabs"))
        more.get_by_label("More tabs").click()
        listed = more.get_by_role("button", name=name, exact=True)
        listed.click()
        expect(listed).to_be_hidden()
        return
    tab.click()
    expect(tab).to_have_attribute("aria-selected", "true")


def upload_picture(page: Page, picture: Path) -> None:
    """Upload a picture in the part of the page that is shown."""
    page.get_by_test_id("file-upload").first.set_input_files(picture)
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def click_example(page: Page, index: int) -> None:
    page.locator("button.gallery-item:visible").nth(index).click()


def choose_model(page: Page, title: str) -> None:
    """Choose a model, and wait for the examples that suit it: those of before are still there."""
    example = page.locator("button.gallery-item:visible").first
    before = example.inner_html()
    page.locator(".model-picker:visible").get_by_role("combobox").click()
    page.get_by_role("option", name=title).click()
    give_up = time.monotonic() + HANG_MS / 1000
    while example.inner_html() == before:
        assert time.monotonic() < give_up, "the examples stay those of the other model"
        page.wait_for_timeout(50)


def rows(page: Page) -> Locator:
    """Return the rows of the table that is shown, without its head."""
    return page.locator(".scores:visible tr:has(td)")


def toast(page: Page) -> Locator:
    """Return the text of the error notice."""
    return page.get_by_test_id("toast-text")


def close_toast(page: Page) -> None:
    page.get_by_test_id("toast-close").click()
    expect(toast(page)).to_have_count(0)


def draw_disc(page: Page) -> None:
    """Draw a filled disc on the canvas with the mouse, in the colour that is set.

    As few moves as make a disc: without a graphics card each takes a third of a second.
    """
    page.get_by_role("button", name="Brush", exact=True).click()
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + 34, y)
    page.mouse.down()
    for radius, steps in ((34, 10), (14, 5)):
        for step in range(steps + 1):
            angle = 2 * math.pi * step / steps
            page.mouse.move(x + radius * math.cos(angle), y + radius * math.sin(angle))
    page.mouse.up()


def overflow_px(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
