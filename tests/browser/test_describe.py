"""The Describe tab, as a person uses it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from gradio.media import get_image
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect

from tests.browser.browsing import (
    HANG_MS,
    at_both_widths,
    choose_model,
    click_example,
    close_toast,
    open_page,
    open_tab,
    press,
    rows,
    toast,
)
from tests.browser.conftest import Visit
from tests.browser.contrast import contrasts
from tests.conftest import draw_circle
from tests.support.app_process import serve

Save = Callable[..., Path]


def enter(visit: Visit, width: int = 1280, theme: str = "light") -> Page:
    page = visit(width, theme)
    open_tab(page, "Describe")
    return page


def caption(page: Page) -> Locator:
    return page.get_by_placeholder("The caption appears here.")


def answers(page: Page) -> Locator:
    return page.locator(".message.bot:visible")


def questions(page: Page) -> Locator:
    return page.locator(".message.user:visible")


def edit(page: Page, text: str) -> None:
    """Put `text` in place of the first question; an answer still coming in closes the box."""
    box = page.locator(".message textarea:visible, textarea.edit-textbox:visible").first
    for _ in range(10):
        with suppress(TimeoutError):
            page.get_by_role("button", name="Edit").first.click(timeout=5000)
            box.fill(text, timeout=5000)
            page.get_by_role("button", name="Submit").first.click(timeout=5000)
            return
    raise AssertionError("the question could not be edited")


def ask(page: Page, question: str) -> None:
    page.get_by_role("textbox", name="Question").fill(question)
    press(page, "Ask")


def settled(page: Page) -> None:
    """Wait until no answer is on its way."""
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()


def retry(page: Page) -> None:
    """Have the last question answered again, and wait until that has begun and is over."""
    page.evaluate("""() => {
        window.begun = false;
        const asks = () => [...document.querySelectorAll('button.go')].filter(b => b.offsetParent);
        new MutationObserver(() => { window.begun ||= asks().some(b => b.disabled) })
            .observe(document.body, {subtree: true, attributes: true});
    }""")
    page.get_by_role("button", name="Retry").click()
    page.wait_for_function("window.begun", timeout=HANG_MS)
    settled(page)


def show_picture(page: Page, picture: Path) -> None:
    """Upload a picture to this tab; the third input is after those of the other tabs."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(picture)
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()


@at_both_widths
def test_an_example_is_captioned(visit: Visit, width: int) -> None:
    page = enter(visit, width)
    click_example(page, 0)
    expect(caption(page)).to_have_value("a red circle on a white background")
    expect(page.locator(".demo-badge:visible")).to_contain_text("coloured shapes only")
    with page.expect_download() as download:
        press(page, "Download")
    assert Path(download.value.path()).read_text("utf-8") == caption(page).input_value() + "\n"


@at_both_widths
def test_a_photo_gets_the_hint_that_it_is_foreign(visit: Visit, width: int) -> None:
    page = enter(visit, width)
    show_picture(page, Path(get_image("lion.jpg")))
    press(page, "Caption")
    hint = page.locator(".note:visible", has_text="not look like a drawing of coloured shapes")
    expect(hint).to_be_visible()
    open_tab(page, "Ask")
    ask(page, "What colour is it?")
    expect(answers(page)).to_have_count(1)
    expect(hint).to_be_visible()


def test_captions_to_choose_from_are_ranked(visit: Visit) -> None:
    page = enter(visit)
    click_example(page, 0)
    expect(caption(page)).to_have_value("a red circle on a white background")
    press(page, "5 captions to choose from")
    expect(rows(page).first).to_contain_text("red circle")
    expect(rows(page).first.locator(".pill")).to_have_text("match")
    assert rows(page).count() > 1
    best = rows(page).first.locator(".name").inner_text()
    expect(caption(page)).to_have_value(best)


@at_both_widths
def test_a_conversation(visit: Visit, save: Save, width: int) -> None:
    page = enter(visit, width)
    show_picture(page, save("blue.png", draw_circle("#1c4ed8")))
    open_tab(page, "Ask")
    ask(page, "What colour is the circle?")
    expect(answers(page)).to_have_text(["blue"])
    expect(page.get_by_label("Question")).to_have_value("")
    expect(page.locator(".meter:visible")).to_contain_text("tokens")
    ask(page, "How many shapes are there?")
    expect(answers(page)).to_have_text(["blue", "one"])
    with page.expect_download() as download:
        press(page, "Download")
    text = Path(download.value.path()).read_text("utf-8")
    assert text.startswith("Question: What colour is the circle?\n\nAnswer: blue\n\n")
    press(page, "New conversation")
    expect(answers(page)).to_have_count(0)


def test_a_question_is_asked_again_undone_and_edited(visit: Visit) -> None:
    page = enter(visit)
    click_example(page, 0)
    expect(caption(page)).not_to_have_value("")
    open_tab(page, "Ask")
    ask(page, "What colour is the circle?")
    expect(answers(page)).to_have_text(["red"])
    settled(page)
    retry(page)
    expect(answers(page)).to_have_text(["red"])
    expect(questions(page)).to_have_count(1)
    edit(page, "How many shapes are there?")
    expect(answers(page)).to_have_text(["one"])
    expect(questions(page)).to_contain_text(["How many shapes are there?"])
    settled(page)
    page.get_by_role("button", name="Undo").click()
    expect(answers(page)).to_have_count(0)
    expect(page.get_by_label("Question")).to_have_value("How many shapes are there?")


SLOW = """
import sys, time
import app
from pipelines.models.captioning.decoding import PieceStreamer
put = PieceStreamer.put
def slowly(self, value):
    time.sleep(1.0)
    put(self, value)
PieceStreamer.put = slowly
app.main(sys.argv[1:])
"""


def test_a_question_asked_meanwhile_is_kept(browser: Browser, tmp_path: Path) -> None:
    """It was taken out of its box, written over by the running answer, and never answered."""
    with serve(tmp_path, code=SLOW) as running:
        page = open_page(browser, running.url)
        open_tab(page, "Describe")
        show_picture(page, get_drawing(tmp_path))
        open_tab(page, "Ask")
        ask(page, "What is in the picture?")
        expect(answers(page)).to_have_count(1)
        box, button = page.get_by_label("Question"), page.get_by_role("button", name="Ask")
        expect(button).to_be_disabled()
        box.fill("What colour is the circle?")
        box.press("Enter")
        expect(toast(page)).to_contain_text("An answer is still coming")
        expect(box).to_have_value("What colour is the circle?")
        close_toast(page)
        press(page, "Stop")
        settled(page)
        press(page, "Ask")
        expect(questions(page).last).to_contain_text("What colour is the circle?")
        expect(answers(page).last).to_have_text("red")
        settled(page)
        page.context.close()


COUNTED = """
import os, sys, time
import app
from pathlib import Path
from pipelines.models.captioning.decoding import StopOnCancel
asked = StopOnCancel.__call__
def slowly(self, *args, **kwargs):
    with Path(os.environ["STEPS"]).open("a") as file:
        file.write(".")
    time.sleep(0.5)
    return asked(self, *args, **kwargs)
StopOnCancel.__call__ = slowly
app.main(sys.argv[1:])
"""

#: Tokens of the caption of `get_drawing`, as the model makes it: a step each.
FEWEST_STEPS = 6


@pytest.mark.parametrize("button", ["Caption", "5 captions to choose from"])
def test_stop_stops_the_model(browser: Browser, tmp_path: Path, button: str) -> None:
    """The second had no stop at all: the button did nothing until its five captions were there."""
    steps = tmp_path / "steps"
    with serve(tmp_path, code=COUNTED, STEPS=str(steps)) as running:
        page = open_page(browser, running.url)
        open_tab(page, "Describe")
        show_picture(page, get_drawing(tmp_path))
        press(page, button)
        while not steps.exists():
            page.wait_for_timeout(50)
        press(page, "Stop")
        taken = -1
        while taken != (taken := steps.stat().st_size):
            page.wait_for_timeout(2000)
        assert taken < FEWEST_STEPS
        expect(page.get_by_role("button", name="Caption", exact=True)).to_be_enabled()
        press(page, "Caption")
        expect(caption(page)).to_have_value("a red circle on a white background")
        assert steps.stat().st_size - taken >= FEWEST_STEPS
        page.context.close()


def get_drawing(folder: Path) -> Path:
    draw_circle().save(folder / "red.png")
    return folder / "red.png"


def test_another_picture_begins_another_conversation(visit: Visit) -> None:
    page = enter(visit)
    click_example(page, 0)
    open_tab(page, "Ask")
    ask(page, "What colour is the circle?")
    expect(answers(page)).to_have_text(["red"])
    click_example(page, 1)
    expect(answers(page)).to_have_count(0)


@at_both_widths
def test_mistakes_are_told_and_cost_nothing(visit: Visit, save: Save, width: int) -> None:
    page = enter(visit, width)
    press(page, "Caption")
    expect(toast(page)).to_have_text("The picture is missing. Upload or choose a file.")
    close_toast(page)
    open_tab(page, "Ask")
    ask(page, "What is it?")
    expect(toast(page)).to_contain_text("The picture is missing")
    close_toast(page)
    expect(page.get_by_label("Question")).to_have_value("What is it?")
    show_picture(page, save("red.png", draw_circle()))
    ask(page, "   ")
    expect(toast(page)).to_contain_text("The question is empty")
    close_toast(page)
    ask(page, "What colour is the circle?")
    expect(answers(page)).to_have_text(["red"])


def test_a_model_out_of_reach_is_told_and_left_again(visit: Visit) -> None:
    page = enter(visit)
    choose_model(page, "BLIP base")
    click_example(page, 0)
    expect(toast(page)).to_contain_text("HF_ENDPOINT")
    close_toast(page)
    open_tab(page, "Ask")
    ask(page, "What colour is the circle?")
    expect(toast(page)).to_contain_text("HF_ENDPOINT")
    close_toast(page)
    choose_model(page, "Demo: drawn shapes only")
    settled(page)
    ask(page, "What colour is the circle?")
    expect(answers(page)).to_have_count(1)
    settled(page)
    open_tab(page, "Caption")
    press(page, "Caption")
    expect(caption(page)).not_to_have_value("")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out(visit: Visit, theme: str) -> None:
    page = enter(visit, theme=theme)
    click_example(page, 0)
    expect(caption(page)).not_to_have_value("")
    open_tab(page, "Ask")
    ask(page, "What colour is the circle?")
    expect(page.locator(".meter:visible")).to_be_visible()
    page.locator("h1").hover()
    selectors = [".message.bot p, .message.bot span", ".message.user span", ".meter span"]
    seen = {selector: contrasts(page, selector) for selector in selectors}
    assert all(seen.values()), f"each kind must be on the page: {seen}"
    weak = {
        f"{kind} {text!r}": round(ratio, 2)
        for kind, found in seen.items()
        for text, ratio in found.items()
        if ratio < 4.5
    }
    assert weak == {}
