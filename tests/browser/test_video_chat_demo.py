"""The Video chat tab over the bundled model, as a visitor meets it."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from components.widgets.examples import chat_videos
from tests.browser.browsing import at_both_widths, click_example, open_page, open_tab, press
from tests.browser.conftest import Visit
from tests.browser.test_describe import answers, ask, edit, questions, settled
from tests.browser.test_video_chat import position_s
from tests.support.app_process import serve


def enter(visit: Visit, width: int = 1280) -> Page:
    page = visit(width)
    open_tab(page, "Video chat")
    return page


def take_example(page: Page, entry: dict[str, Any]) -> None:
    """Click the first example; it fills in its video and its question."""
    click_example(page, 0)
    box = page.get_by_role("textbox", name="Question")
    expect(box).to_have_value(entry["questions"][0]["question"])
    expect(page.locator("[role=tabpanel]:visible video").first).to_be_visible()


@at_both_widths
def test_three_turns_about_an_example(visit: Visit, width: int) -> None:
    entry = chat_videos()[0]
    page = enter(visit, width)
    take_example(page, entry)
    expect(page.locator(".plan:visible")).to_contain_text("8 frames")
    press(page, "Ask")
    told: list[str] = []
    for number, asked in enumerate(entry["questions"]):
        if number:
            ask(page, asked["question"])
        told.append(asked["answer"])
        expect(answers(page)).to_have_text(told)
        settled(page)
    expect(page.locator(".demo-badge:visible")).to_contain_text("moving")
    frames = page.locator(".film:visible a")
    expect(frames).to_have_count(8)
    frames.nth(5).click()
    there = float(str(frames.nth(5).get_attribute("href")).partition("=")[2])
    assert there > 1
    assert position_s(page) == pytest.approx(there, abs=0.05)
    with page.expect_download() as download:
        press(page, "Download")
    text = Path(download.value.path()).read_text("utf-8")
    for asked in entry["questions"]:
        assert f"Question: {asked['question']}\n\nAnswer: {asked['answer']}\n" in text


def test_a_question_is_edited_and_what_followed_it_goes(visit: Visit) -> None:
    page = enter(visit)
    take_example(page, chat_videos()[0])
    press(page, "Ask")
    expect(answers(page)).to_have_text(["it moves left"])
    settled(page)
    ask(page, "How many shapes are there?")
    expect(answers(page)).to_have_text(["it moves left", "one"])
    settled(page)
    edit(page, "What colour is the background?")
    expect(answers(page)).to_have_text(["white"])
    expect(questions(page)).to_have_count(1)
    settled(page)


def test_another_example_is_another_conversation(visit: Visit) -> None:
    page = enter(visit)
    take_example(page, chat_videos()[0])
    press(page, "Ask")
    expect(answers(page)).to_have_count(1)
    settled(page)
    click_example(page, 1)
    expect(answers(page)).to_have_count(0)
    entry = chat_videos()[1]
    expect(page.get_by_label("Question")).to_have_value(entry["questions"][0]["question"])
    press(page, "Ask")
    expect(answers(page)).to_have_text([entry["questions"][0]["answer"]])


SLOW = """
import sys, time
import app
import pipelines.models.videochat_flash.pipeline as chat
stream_text = chat.stream_text
def slowly(*args):
    for piece in stream_text(*args):
        yield piece
        time.sleep(2.0)
chat.stream_text = slowly
app.main(sys.argv[1:])
"""


def test_stop_ends_an_answer_and_the_next_one_is_given(browser: Browser, tmp_path: Path) -> None:
    with serve(tmp_path, code=SLOW) as running:
        page = open_page(browser, running.url)
        open_tab(page, "Video chat")
        take_example(page, chat_videos()[0])
        ask(page, "Describe the video.")
        expect(answers(page)).to_contain_text("a red circle")
        press(page, "Stop")
        settled(page)
        said = answers(page).inner_text()
        ask(page, "What colour is the circle?")
        expect(answers(page)).to_have_count(2)
        expect(answers(page).last).to_have_text("red")
        assert "moves left" not in said
        expect(answers(page).first).to_have_text(said)
        settled(page)
        page.context.close()
