"""Pictures of the tabs: `python -m tests.browser.screenshots` makes those of the manual.

With `--all FOLDER` every tab at both widths and in both themes is written there, for review.
"""

import argparse
import io
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.browsing import chromium, click_example, open_page, open_tab, press
from tests.support.app_process import ROOT, serve

#: The tabs that are shown in docs/tabs.md.
TABS = (
    "Classify",
    "Similarity",
    "Describe",
    "Batch",
    "Video chat",
    "Match",
    "Moments",
    "Search",
    "Evaluate",
)


def answered(browser: Browser, url: str, tab: str, width: int, dark: bool) -> Page:
    """Open a tab and have an example answered."""
    page = open_page(browser, url, width=width, theme="dark" if dark else "light")
    if tab == "Classify":
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Show where the model looks for a label").check()
        click_example(page, 3)
        page.locator(".scores .pill:visible").first.wait_for()
        page.locator("img[src*='file=']:visible").last.wait_for()
    elif tab == "Describe":
        open_tab(page, tab)
        click_example(page, 3)
        page.locator(".demo-badge:visible").wait_for()
        open_tab(page, "Ask")
        for question in ("How many shapes are there?", "Where is the green square?"):
            page.get_by_label("Question").fill(question)
            press(page, "Ask")
            page.get_by_role("button", name="Retry").wait_for()
    elif tab == "Video chat":
        open_tab(page, tab)
        click_example(page, 1)
        page.locator(".plan:visible", has_text="prepared").wait_for()
        press(page, "Ask")
        page.get_by_role("button", name="Retry").wait_for()
        for question in ("What does the star do?", "What colour is the background?"):
            page.get_by_label("Question").fill(question)
            press(page, "Ask")
            page.get_by_role("button", name="Retry").wait_for()
            page.get_by_text(question).wait_for()
    elif tab == "Batch":
        open_tab(page, tab)
        press(page, "Take the example pictures")
        page.locator(".file-preview:visible .file").first.wait_for()
        press(page, "Start")
        page.locator(".batch-progress:visible", has_text="Done: ").wait_for()
    elif tab == "Search":
        open_tab(page, tab)
        press(page, "Use examples")
        page.locator(".scores .pill:visible").first.wait_for()
    elif tab == "Evaluate":
        open_tab(page, tab)
        press(page, "Take the example")
        page.locator(".file-preview:visible .file").first.wait_for()
        press(page, tab)
        page.locator(".mistakes:visible").wait_for()
    elif tab in ("Match", "Moments"):
        open_tab(page, tab)
        click_example(page, 0)
        page.locator(".scores .pill:visible").first.wait_for()
        page.wait_for_function("""() => {  // they are loaded once they are seen
            const left = [...document.querySelectorAll('.frames img')]
                .filter(picture => picture.offsetParent && !picture.complete);
            left[0]?.scrollIntoView();
            return !left.length;
        }""")
    else:
        open_tab(page, tab)
        click_example(page, 0)
        page.locator(".scores.ranking:visible").wait_for()
        page.locator(".ranked img:visible").first.wait_for()
    page.wait_for_timeout(1500)  # pictures fade in
    return page


def file_name(tab: str) -> str:
    """Return how the files of a tab are named."""
    return tab.lower().replace(" ", "-")


def save(page: Page, target: Path) -> None:
    """Save a small PNG of the whole page."""
    page.mouse.move(0, 0)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shot.quantize(160, method=Image.Quantize.FASTOCTREE).save(target, optimize=True)
    page.close()


def main() -> None:
    """Start the app, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, default=None, metavar="FOLDER")
    parser.add_argument("--tabs", nargs="+", choices=TABS, default=TABS)
    chosen = parser.parse_args()
    target: Path | None = chosen.all
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, serve(Path(folder)) as app, chromium() as browser:
        for tab in chosen.tabs:
            if target is None:
                page = answered(browser, app.url, tab, 1280, False)
                save(page, ROOT / "assets" / "screenshots" / f"{file_name(tab)}.png")
                continue
            for width in (1280, 390):
                for dark in (False, True):
                    name = f"{file_name(tab)}-{width}-{'dark' if dark else 'light'}.png"
                    save(answered(browser, app.url, tab, width, dark), target / name)


if __name__ == "__main__":
    main()
