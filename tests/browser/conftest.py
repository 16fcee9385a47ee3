"""A browser for the tests of this folder, and visitors whose trouble is noticed."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request

from tests.browser.browsing import chromium, open_page, overflow_px
from tests.support.app_process import RunningApp

Visit = Callable[..., Page]

#: Gradio's strips of examples play a video while the mouse is over it; leaving at once is no error.
HARMLESS = "The play() request was interrupted by a call to pause()"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, running_app: RunningApp) -> Iterator[Visit]:
    """Open the app as a new visitor, as wide and as dark as asked for.

    At the end no page may have raised an error, asked a foreign host for anything, or be wider
    than its window.
    """
    pages: list[Page] = []
    trouble: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            trouble.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((running_app.url, "data:", "blob:")):
            trouble.append(f"foreign request: {request.url}")

    def on_page_error(error: Error) -> None:
        if HARMLESS not in str(error):
            trouble.append(f"page: {error}")

    def prepare(page: Page) -> None:
        page.on("console", on_console)
        page.on("request", on_request)
        page.on("pageerror", on_page_error)

    def enter(width: int = 1280, theme: str = "light", locale: str = "en-GB") -> Page:
        page = open_page(
            browser, running_app.url, width=width, theme=theme, prepare=prepare, locale=locale
        )
        pages.append(page)
        return page

    yield enter
    widths = [overflow_px(page) for page in pages]
    for page in pages:
        page.context.close()
    assert trouble == []
    assert max(widths) <= 0, "the page is wider than its window"
