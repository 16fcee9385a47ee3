"""A headless Chromium that reaches this machine only."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

#: Chromium as systems call it; where there is none, Playwright's own is taken.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

#: Milliseconds after which something that a person waits for counts as not coming.
HANG_MS = 60_000


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


def open_app(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    theme: str = "light",
    prepare: Callable[[Page], None] = lambda page: None,
) -> Page:
    """Open the app in a fresh visitor's window and wait until it can be used.

    `prepare` sees the window before anything is loaded into it.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900}, locale="en-GB", accept_downloads=True
    )
    context.set_default_timeout(HANG_MS)
    page = context.new_page()
    prepare(page)
    page.goto(f"{url.rstrip('/')}/?__theme={theme}")
    page.get_by_role("button", name="Classify", exact=True).wait_for()
    page.get_by_text("Comes with SeeSay").first.wait_for()
    return page
