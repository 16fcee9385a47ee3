"""A browser for the tests of this folder, and visitors whose trouble is noticed."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.browser.chromium import HANG_MS, chromium, open_app
from tests.browser.serve import RunningApp

expect.set_options(timeout=HANG_MS)

Visit = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, running_app: RunningApp) -> Iterator[Visit]:
    """Open the app as a new visitor, as wide and as dark as asked for.

    At the end no page may have raised an error, asked a foreign host for anything, or become
    wider than its window.
    """
    pages: list[Page] = []
    trouble: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            trouble.append(f"console: {message.text}")

    def watch(request: Request) -> None:
        if not request.url.startswith((running_app.url, "data:", "blob:")):
            trouble.append(f"foreign request: {request.url}")

    def enter(width: int = 1280, theme: str = "light") -> Page:
        page = open_app(browser, running_app.url, width=width, theme=theme, prepare=prepare)
        pages.append(page)
        return page

    def prepare(page: Page) -> None:
        page.on("console", listen)
        page.on("request", watch)
        page.on("pageerror", lambda error: trouble.append(f"page: {error}"))

    yield enter
    for page in pages:
        assert overflow_px(page) <= 0
        page.context.close()
    assert trouble == []


def overflow_px(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
