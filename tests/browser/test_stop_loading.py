"""Stop while a model's weights are loaded: the page is free again before they are there."""

from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.browsing import open_page, open_tab, press
from tests.browser.test_describe import answers, ask, get_drawing, settled, show_picture
from tests.support.app_process import serve

#: Loads weights only once a file is there.
HELD = """
import sys, time
from pathlib import Path
import app
from pipelines.models.base import Pipeline
load = Pipeline.load
def held(self):
    while not Path({gate!r}).exists():
        time.sleep(0.05)
    load(self)
Pipeline.load = held
app.main(sys.argv[1:])
"""


def told(page: Page, text: str) -> Locator:
    """Return where a text of progress is seen."""
    return page.locator(".progress-level-inner:visible", has_text=text)


def enter(browser: Browser, url: str, picture: Path) -> Page:
    page = open_page(browser, url)
    open_tab(page, "Describe")
    show_picture(page, picture)
    open_tab(page, "Ask")
    return page


def test_stop_while_a_model_is_loaded(browser: Browser, tmp_path: Path) -> None:
    """Neither that it is loaded nor the place of those who wait was ever seen on the page."""
    gate, picture = tmp_path / "gate", get_drawing(tmp_path)
    with serve(tmp_path, code=HELD.format(gate=str(gate))) as running:
        first, second = (enter(browser, running.url, picture) for _ in range(2))
        for page, text in ((first, "Loading the model"), (second, "1 before you")):
            ask(page, "What colour is the circle?")
            expect(told(page, text).first).to_be_visible()
        press(first, "Stop")
        settled(first)
        expect(told(first, "Loading the model")).to_have_count(0)
        expect(told(second, "Loading the model").first).to_be_visible()
        assert not gate.exists(), "nothing was loaded yet"
        gate.touch()
        expect(answers(second)).to_have_text(["red"])
        ask(first, "What colour is the circle?")
        expect(answers(first)).to_have_text(["red"])
        for page in (first, second):
            settled(page)
            page.context.close()
